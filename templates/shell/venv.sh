# Whether a release can run from a venv.

venv_works() { "$1/bin/python" -I -c 'import gunicorn' </dev/null >/dev/null 2>&1; } # VENV

# It lies where the Python that is there now looks for it, as long as nobody has changed either: seen without starting it.
venv_fits() { # VENV
  python=$(readlink -f "$1/bin/python") && [ -x "$python" ] &&
    [ -f "$1/lib/${python##*/}/site-packages/gunicorn/__init__.py" ]
}
