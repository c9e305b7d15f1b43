"""Log each request in one line, and put the request's id into every line that is logged meanwhile."""

from __future__ import annotations

import logging
import re
import time
import uuid

from flask import Flask, Response, g, request

from . import logs

HEADER = "X-Request-ID"
CHECK = "X-Loop-Check"
WAYS = ("blue", "green", "live")
WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)

log = logging.getLogger("access")


def install(app: Flask) -> None:
    """Give every request an id, send it back as X-Request-ID, and log the request when it is answered."""
    app.before_request(_begin)
    app.after_request(_finish)
    app.teardown_request(_forget)


def _begin() -> None:
    g.started = time.monotonic()
    given = request.headers.get(HEADER, "")
    logs.request_id.set(given if WELL_FORMED.fullmatch(given) else uuid.uuid4().hex)


def _finish(response: Response) -> Response:
    response.headers[HEADER] = logs.request_id.get()
    fields = {
        "method": request.method,
        "path": request.path,  # without the query, which may hold secrets
        "status": response.status_code,
        "ms": round((time.monotonic() - g.started) * 1000, 1),
        "remote": request.remote_addr or "",
    }
    # nginx marks the host's own health checks; `fab logs` shows them only with --checks.
    if (check := request.headers.get(CHECK)) in WAYS:
        fields["check"] = check
    log.info("%s %s %s", request.method, request.path, response.status_code, extra={"fields": fields})
    return response


def _forget(_error: BaseException | None) -> None:
    logs.request_id.set("")
