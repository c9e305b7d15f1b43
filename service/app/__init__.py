"""The service: a Flask application, run by systemd behind nginx.

Each module adds one thing to the application; `create_app` is the list of them. From the folder above this one::

    flask --app app run
    gunicorn "app:create_app()"
"""

from __future__ import annotations

from flask import Flask

from . import about, access, errors, gateway, health, logs, wrapping
from .commands import COMMANDS

MAX_BODY = 64 * 1024


def create_app() -> Flask:
    """Make the application. It reads its settings from the environment and logs to stdout."""
    logs.configure()
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    gateway.install(app)
    access.install(app)
    errors.install(app)
    app.register_blueprint(about.pages)
    app.register_blueprint(health.probes([health.state_is_writable, health.programs_of(COMMANDS)]))
    app.register_blueprint(wrapping.endpoints(COMMANDS))
    return app
