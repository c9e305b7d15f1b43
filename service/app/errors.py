"""Answer every error as JSON: `{"error": {status, name, message, request_id}}`. Tracebacks go to the log only."""

from __future__ import annotations

import json

from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from . import logs


def install(app: Flask) -> None:
    """Answer every HTTP error, and every uncaught exception (500), as JSON."""
    app.register_error_handler(HTTPException, _as_json)


def _as_json(error: HTTPException) -> Response:
    response = error.get_response()
    document = {
        "status": response.status_code,
        "name": error.name,
        "message": error.description,
        "request_id": logs.request_id.get(),
    }
    response.headers["Content-Type"] = "application/json"
    response.data = json.dumps({"error": document}) + "\n"
    return response
