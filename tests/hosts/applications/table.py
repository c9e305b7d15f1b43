"""Real applications of PyPI, each as its own documentation and docs/SERVICE.md say to run it.

None was written for these tests. `pins/` has the versions of what each requires.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.hosts.applications import use
from tests.hosts.applications.use import Served


@dataclass(frozen=True)
class Application:
    """One application.

    requirements: the lines of requirements.in, gunicorn apart.
    service: keys of service.yaml; its name is that of the application.
    files: further files of service/, by path.
    use: works with it as people do, and leaves something behind.
    kept: finds what `use` has left.
    shown: the path of a page that has the text EDITION of the files or of service.yaml, if one does.
    """

    name: str
    requirements: tuple[str, ...]
    service: Mapping[str, Any]
    use: Callable[[Served], None]
    kept: Callable[[Served], None]
    files: Mapping[str, str] = field(default_factory=dict)
    shown: str = ""


EDITION = "edition one"
IHATEMONEY = Application(
    "ihatemoney",  # Flask, with forms and migrations that each start runs
    ("ihatemoney==7.2.1",),
    {"app": "wsgi:application", "python": ">=3.11", "health": {"path": "/"}},
    use.ihatemoney,
    use.ihatemoney_kept,
    {
        "wsgi.py": """\
import os
from pathlib import Path

os.environ["IHATEMONEY_SETTINGS_FILE_PATH"] = str(Path(__file__).with_name("ihatemoney.cfg"))

from ihatemoney.wsgi import application
""",
        "ihatemoney.cfg": f"""\
import os

SQLALCHEMY_DATABASE_URI = "sqlite:///" + os.environ["STATE_DIRECTORY"] + "/ihatemoney.sqlite"
SECRET_KEY = "tried"
SITE_NAME = "{EDITION}"
""",
        # Its migrations run when it is imported: once, before the workers are forked.
        "gunicorn.conf.py": "preload_app = True\n",
    },
    "/",
)
ARA = Application(
    "ara",  # Django with its own settings, migrations in a hook, static files by WhiteNoise
    ("ara[server]==1.8.0",),
    {
        "app": "ara.server.wsgi:application",
        "python": ">=3.10",
        "health": {"path": "/healthcheck/"},
        "env": {"ARA_BASE_DIR": "/var/lib/ara", "ARA_ALLOWED_HOSTS": "['ara.example']", "EDITION": EDITION},
        "hooks": {"before_activate": "ara-manage migrate"},
    },
    use.ara,
    use.ara_kept,
)
MARIMO = Application(
    "marimo",  # Starlette with lifespan and WebSocket, on uvicorn's worker
    ("uvicorn-worker==0.4.0", "marimo==0.25.2"),
    {
        "app": "asgi:app",
        "python": ">=3.10",
        "health": {"path": "/health"},
        "processes": {"web": {"workers": 1, "worker_class": "uvicorn_worker.UvicornWorker"}},
    },
    use.marimo,
    use.marimo_kept,
    {
        "asgi.py": 'import marimo\n\napp = marimo.create_asgi_app().with_app(path="/", root="notebook.py").build()\n',
        "notebook.py": f"""\
import marimo

app = marimo.App(app_title="{EDITION}")


@app.cell
def _():
    import os

    path = os.environ["STATE_DIRECTORY"] + "/visits"
    with open(path, "a") as file:
        file.write("seen ")
    open(path).read()
""",
    },
    "/",
)
RADICALE = Application(
    "radicale",  # a calendar server in plain WSGI, with methods of its own
    ("radicale==3.9.0",),
    {"app": "radicale:application", "health": {"path": "/.web/"}, "env": {"RADICALE_CONFIG": "config.ini"}},
    use.radicale,
    use.radicale_kept,
    {
        "config.ini": "[auth]\ntype = none\n[storage]\nfilesystem_folder = /var/lib/radicale/collections\n"
        f"[headers]\nX-Edition = {EDITION}\n"
    },
    "/.web/",
)
PYPISERVER = Application(
    "pypiserver",  # Bottle, by a factory with arguments; uploads
    ("pypiserver==2.4.2",),
    {
        "app": "pypiserver:app(roots=['/var/lib/pypiserver/packages'], password_file='.', authenticate=[])",
        "python": ">=3.10",
        "health": {"path": "/health"},
        # The service makes this directory, below STATE_DIRECTORY, when it starts.
        "shared": ["packages"],
        "env": {"EDITION": EDITION},
    },
    use.pypiserver,
    use.pypiserver_kept,
)
BEPASTY = Application(
    "bepasty",  # Flask, with large uploads; no index has a wheel of it, so the controller builds one
    ("bepasty==1.2.2",),
    {"app": "wsgi:application", "health": {"path": "/"}},
    use.bepasty,
    use.bepasty_kept,
    {
        "wsgi.py": """\
import os
from pathlib import Path

os.environ["BEPASTY_CONFIG"] = str(Path(__file__).with_name("bepasty.conf"))

from bepasty.wsgi import application
""",
        "bepasty.conf": f"""\
import os

SITENAME = "{EDITION}"
STORAGE = "filesystem"
STORAGE_FILESYSTEM_DIRECTORY = os.environ["STATE_DIRECTORY"]
DEFAULT_PERMISSIONS = "read,create,list,delete"
SECRET_KEY = "tried"
""",
    },
    "/",
)
GDBGUI = Application(
    "gdbgui",  # Flask-SocketIO, on gevent; one worker, since a session of Socket.IO is in its memory
    ("gunicorn[gevent]", "gdbgui==0.15.2.0"),
    {
        "app": "wsgi:app",
        "python": ">=3.11",
        "health": {"path": "/"},
        "processes": {"web": {"workers": 1, "worker_class": "gevent"}},
        "env": {"EDITION": EDITION},
    },
    use.gdbgui,
    use.gdbgui,
    {"wsgi.py": "from gdbgui.server.app import app, socketio\n\nsocketio.init_app(app, async_mode='gevent')\n"},
)
ECHOPILE = Application(
    "echopile",  # Dash, with numpy, scipy and pandas
    ("echopile==0.95.0",),
    {"app": "wsgi:server", "python": ">=3.11", "health": {"path": "/"}},
    use.echopile,
    use.echopile,
    {
        "wsgi.py": f"""\
from echopile.app import build_app

app = build_app()
app.title = "{EDITION}"
server = app.server
"""
    },
    "/",
)
SUPYSONIC = Application(
    "supysonic",  # Flask, with a daemon beside it that watches a directory
    ("supysonic==0.7.9",),
    {
        "app": "supysonic.web:create_application()",
        "health": {"path": "/user/login"},
        "processes": {"daemon": {"command": "supysonic-daemon", "single": True}},
        "shared": ["music"],
    },
    use.supysonic,
    use.supysonic_kept,
    {
        "supysonic.conf": f"""\
# {EDITION}
[base]
database_uri = sqlite:////var/lib/supysonic/supysonic.db
[webapp]
cache_dir = /var/cache/supysonic
[daemon]
socket = /var/lib/supysonic/daemon.sock
wait_delay = 0
"""
    },
)
TRAC = Application(
    "trac",  # WSGI since before Flask; an environment that a hook makes once
    ("Trac==1.6", "setuptools<81"),
    {
        "app": "trac.web.main:dispatch_request",
        "health": {"path": "/wiki"},
        "env": {"TRAC_ENV": "/var/lib/trac/env", "EDITION": EDITION},
        "hooks": {"before_activate": "sh environment.sh"},
    },
    use.trac,
    use.trac_kept,
    {
        "environment.sh": """\
set -e
[ ! -d $TRAC_ENV ] || exit 0
trac-admin $TRAC_ENV initenv Shire sqlite:db/trac.db
trac-admin $TRAC_ENV permission add anonymous TICKET_CREATE
"""
    },
)
DATASETTE = Application(
    "datasette",  # ASGI, on gunicorn's own worker
    ("datasette==0.65.5",),
    {
        "app": "asgi:app",
        "python": ">=3.10",
        "health": {"path": "/-/versions.json"},
        "processes": {"web": {"worker_class": "asgi"}},
        "env": {"TITLE": EDITION},
        # Its database has to be there.
        "hooks": {"before_activate": "python asgi.py"},
    },
    use.datasette,
    use.datasette_kept,
    {
        "asgi.py": """\
import os
import sqlite3

from datasette.app import Datasette

path = os.environ["STATE_DIRECTORY"] + "/data.db"
queries = {"add": {"sql": "insert into notes (note) values (:note)", "write": True}}
databases = {"data": {"queries": queries}}
metadata = {"title": os.environ["TITLE"], "databases": databases}
# Without a secret each worker would make one of its own.
app = Datasette([path], metadata=metadata, secret="tried").app()

if __name__ == "__main__":
    sqlite3.connect(path).execute("create table if not exists notes (note text)")
"""
    },
    "/",
)
CHAKA = Application(
    "chaka",  # FastAPI with lifespan, migrations and WebSocket, on uvicorn's worker
    ("uvicorn-worker==0.3.0", "chaka==0.5.0"),
    {
        "app": "chaka.factory:create_app()",
        "python": ">=3.11",
        "health": {"path": "/login"},
        # Its connections are in its memory.
        "processes": {"web": {"workers": 1, "worker_class": "uvicorn_worker.UvicornWorker"}},
        "env": {
            "DATABASE_URL": "sqlite+aiosqlite:////var/lib/chaka/chaka.db",
            "LOG_FILE": "/var/log/chaka/chaka.log",
            "HEARTBEAT_LOG_FILE": "/var/log/chaka/heartbeat.log",
            "SECRET_KEY": "tried",
            "TITLE": EDITION,
        },
        "needs": ["logs"],
        "hooks": {"before_activate": "chaka db upgrade"},
    },
    use.chaka,
    use.chaka_kept,
    shown="/openapi.json",
)
APPLICATIONS = (
    # Flask
    *(BEPASTY, GDBGUI, IHATEMONEY, ECHOPILE, SUPYSONIC),
    # Other WSGI
    *(PYPISERVER, ARA, TRAC, RADICALE),
    # ASGI
    *(CHAKA, MARIMO, DATASETTE),
)
"""`make test` tries one of each third, by its seed."""
