"""Follow a request: its id in every line that is logged and every call, a line of its own, the security headers."""

from __future__ import annotations

import logging
import re
import time
import uuid
from urllib.request import BaseHandler, Request, build_opener, install_opener

from flask import Flask, Response, g, request
from werkzeug.middleware.proxy_fix import ProxyFix

from . import logs

HEADER = "X-Request-ID"
CHECK = "X-Loop-Check"
WAYS = ("blue", "green", "live")
WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)
SECURITY = {  # a view that needs another value sets it; nginx adds Strict-Transport-Security
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

log = logging.getLogger("access")


def init_app(app: Flask) -> None:
    """Take the client's address and scheme from so many proxies as are trusted; begin and finish every request."""
    hops = app.config["TRUSTED_PROXIES"]
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=0)  # type: ignore[method-assign]
    app.before_request(_begin)
    app.after_request(_finish)
    app.teardown_request(_forget)
    install_opener(build_opener(Outgoing))


class Outgoing(BaseHandler):
    """Send the request's id with each call by urllib.request.urlopen; with another client: `headers=headers()`."""

    def http_request(self, call: Request) -> Request:
        """Add the header to a call."""
        call.headers.update({name.capitalize(): value for name, value in headers().items()})
        return call

    https_request = http_request


def headers() -> dict[str, str]:
    """Return the header for a call to another service: the request's id."""
    return {HEADER: logs.request_id.get()} if logs.request_id.get() else {}


def _begin() -> None:
    g.started = time.monotonic()
    given = request.headers.get(HEADER, "")
    logs.request_id.set(given if WELL_FORMED.fullmatch(given) else uuid.uuid4().hex)


def _finish(response: Response) -> Response:
    response.headers[HEADER] = logs.request_id.get()
    for name, value in SECURITY.items():
        response.headers.setdefault(name, value)
    fields = {
        "method": request.method,
        "path": request.path,  # without the query, which may hold secrets
        "status": response.status_code,
        "ms": round((time.monotonic() - g.started) * 1000, 1),
        "remote": request.remote_addr or "",
        **({"token": g.token.name} if "token" in g else {}),
    }
    # nginx marks the host's own health checks; `fab logs` shows them only with --checks.
    if (check := request.headers.get(CHECK)) in WAYS:
        fields["check"] = check
    log.info("%s %s %s", request.method, request.path, response.status_code, extra={"fields": fields})
    return response


def _forget(_error: BaseException | None) -> None:
    logs.request_id.set("")
