"""The front page: the service and its endpoints, as JSON, or as HTML for a browser."""

from __future__ import annotations

import secrets

from flask import Blueprint, Flask, Response, current_app, jsonify, make_response, render_template, request

from . import auth
from .health import identity

pages = Blueprint("about", __name__)


def init_app(app: Flask) -> None:
    """Add the page."""
    app.register_blueprint(pages)


@pages.get("/")
@auth.role(auth.OPEN)
def index() -> Response:
    """This page: the service and its endpoints."""
    about = {**identity(), "greeting": current_app.config["GREETING"], "endpoints": _endpoints()}
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        nonce = secrets.token_urlsafe(16)
        response = make_response(render_template("about.html", nonce=nonce, **about))
        response.headers["Content-Security-Policy"] = f"default-src 'none'; style-src 'nonce-{nonce}'"
    else:
        response = jsonify(about)
    response.vary.add("Accept")
    return response


def _endpoints() -> list[dict[str, str]]:
    """List every route, with its role and the first line of its function's docstring."""
    endpoints = []
    for rule in sorted(current_app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = current_app.view_functions[rule.endpoint]
        what = (view.__doc__ or "").partition("\n")[0]
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            endpoints.append({"method": method, "path": rule.rule, "role": auth.role_of(view), "what": what})
    return endpoints
