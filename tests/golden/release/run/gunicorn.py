# Settings of gunicorn for myapp, release 0123456789ab.
__file__ = '/opt/apps/myapp/releases/0123456789ab/code/gunicorn.conf.py'
try:
    with open(__file__, 'rb') as text:
        application = compile(text.read(), __file__, 'exec')
except FileNotFoundError:
    application = ''
exec(application)

# What neither service.yaml nor gunicorn.conf.py says.
workers = globals().get("workers", 2)
timeout = globals().get("timeout", 30)
graceful_timeout = 32
forwarder_headers = globals().get("forwarder_headers", "")
