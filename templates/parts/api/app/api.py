"""The API: its versions, side by side below /api, each with its OpenAPI document and a page."""

from __future__ import annotations

import logging
import sqlite3

from flask import Flask, current_app
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.wrappers import Response

from . import notes, openapi

VERSIONS = (notes.v1,)

log = logging.getLogger("api")


def init_app(app: Flask) -> None:
    """Add the versions, their documents and their pages."""
    app.register_error_handler(sqlite3.OperationalError, _unavailable)
    for version in VERSIONS:
        app.register_blueprint(version)
        openapi.add(app, version)


def _unavailable(error: Exception) -> Response:
    log.error("the store of the API does not answer", exc_info=error)
    return current_app.handle_http_exception(ServiceUnavailable("the store does not answer", retry_after=5))  # type: ignore[return-value]
