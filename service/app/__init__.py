"""The service: a Flask application, run by systemd behind nginx. Each module adds one thing to it."""

from __future__ import annotations

from logging.config import dictConfig

from flask import Flask

from . import about, access, auth, errors, health, logs, settings, wrapping
from .commands import COMMANDS
from .parts import PARTS


def create_app() -> Flask:
    """Make the application. It reads its settings from the environment and logs to stdout."""
    dictConfig(logs.settings())
    app = Flask(__name__, static_folder=None)
    try:
        app.config.update(settings.load())
        for module in (access, errors, auth, about, health, *PARTS):
            module.init_app(app)
        wrapping.add(app, COMMANDS)
    except settings.SettingError as error:
        app.logger.critical("%s", error)
        raise SystemExit(4) from None  # gunicorn then starts no further worker
    return app
