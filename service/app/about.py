"""The front page: the service and its endpoints, as JSON, or as HTML for a browser."""

from __future__ import annotations

import os

from flask import Blueprint, Response, current_app, jsonify, make_response, render_template, request

from .identity import identity

pages = Blueprint("about", __name__)


@pages.get("/")
def index() -> Response:
    """This page: the service and its endpoints."""
    about = {**identity(), "greeting": os.environ.get("GREETING", "hello"), "endpoints": _endpoints()}
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        response = make_response(render_template("about.html", **about))
    else:
        response = jsonify(about)
    response.vary.add("Accept")
    return response


def _endpoints() -> list[dict[str, str]]:
    """List every route, with the first line of its function's docstring."""
    endpoints = []
    for rule in current_app.url_map.iter_rules():
        method = min((rule.methods or set()) - {"HEAD", "OPTIONS"})
        what = (current_app.view_functions[rule.endpoint].__doc__ or "").partition("\n")[0]
        endpoints.append({"method": method, "path": rule.rule, "what": what})
    return sorted(endpoints, key=lambda endpoint: (endpoint["path"], endpoint["method"]))
