"""Take the client's address and scheme from X-Forwarded-*, but only if a trusted proxy sent them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class Gateway:
    """Trust the X-Forwarded-* of `hops` proxies; with None, of one on a Unix socket (nginx) and of none on TCP."""

    def __init__(self, app: WSGIApplication, hops: int | None) -> None:
        self.direct = app
        self.hops = hops
        trusted = 1 if hops is None else hops
        self.proxied = ProxyFix(app, x_for=trusted, x_proto=trusted, x_host=0, x_port=0, x_prefix=0)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Call the application, with the forwarded headers applied if they are trusted."""
        over_unix_socket = not environ.get("REMOTE_ADDR")
        if self.hops or (self.hops is None and over_unix_socket):
            return self.proxied(environ, start_response)
        return self.direct(environ, start_response)


def install(app: Flask) -> None:
    """Wrap the application in a Gateway. TRUSTED_PROXIES sets `hops`; ValueError if the variable is no number."""
    setting = os.environ.get("TRUSTED_PROXIES", "")
    if setting and not setting.isdecimal():
        raise ValueError(f"TRUSTED_PROXIES is the number of proxies to believe, not {setting!r}")
    app.wsgi_app = Gateway(app.wsgi_app, int(setting) if setting else None)  # type: ignore[method-assign]
