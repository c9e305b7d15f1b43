"""Answer every error as problem details (RFC 9457). Tracebacks go to the log only."""

from __future__ import annotations

import json

from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from . import logs


class Problem(HTTPException):
    """An error of any status, whose answer has further members."""

    def __init__(self, code: int, description: str, **members: object) -> None:
        super().__init__(description)
        self.code = code
        self.members = members


def init_app(app: Flask) -> None:
    """Answer every HTTP error, and every uncaught exception (500), as problem details."""
    app.register_error_handler(HTTPException, _as_problem)


def _as_problem(error: HTTPException) -> Response:
    response = error.get_response()
    document = {
        "type": "about:blank",  # the status says all that there is to say
        "title": error.name,
        "status": response.status_code,
        "detail": error.description,
        "request_id": logs.request_id.get(),
        **(error.members if isinstance(error, Problem) else {}),
    }
    response.data = json.dumps(document) + "\n"
    response.content_type = "application/problem+json"
    return response
