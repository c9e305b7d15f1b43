"""Whose word counts for the client's address and scheme: X-Forwarded-* is believed from the gateway alone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class Gateway:
    """Believe so many proxies; with None, one on a Unix socket, where nginx is, and none on TCP."""

    def __init__(self, app: WSGIApplication, hops: int | None) -> None:
        self.direct = app
        self.hops = hops
        believed = 1 if hops is None else hops
        self.proxied = ProxyFix(app, x_for=believed, x_proto=believed, x_host=0, x_port=0, x_prefix=0)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer, after the forwarded headers took effect where they count."""
        over_unix_socket = not environ.get("REMOTE_ADDR")
        if self.hops or (self.hops is None and over_unix_socket):
            return self.proxied(environ, start_response)
        return self.direct(environ, start_response)


def install(app: Flask) -> None:
    """Put this rule in front of the application. TRUSTED_PROXIES overrides it; ValueError when that is no number."""
    setting = os.environ.get("TRUSTED_PROXIES", "")
    if setting and not setting.isdecimal():
        raise ValueError(f"TRUSTED_PROXIES is the number of proxies to believe, not {setting!r}")
    app.wsgi_app = Gateway(app.wsgi_app, int(setting) if setting else None)  # type: ignore[method-assign]
