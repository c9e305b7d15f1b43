"""The front page: what this is and where to go, as JSON, or as a page for a browser."""

from __future__ import annotations

import os

from flask import Blueprint, Response, current_app, jsonify, make_response, render_template, request

from .identity import identity

pages = Blueprint("about", __name__)


@pages.get("/")
def index() -> Response:
    """What this is, and every endpoint it has."""
    about = {**identity(), "greeting": os.environ.get("GREETING", "hello"), "endpoints": _endpoints()}
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        response = make_response(render_template("about.html", **about))
    else:
        response = jsonify(about)
    response.vary.add("Accept")
    return response


def _endpoints() -> list[dict[str, str]]:
    """Every route, with the first line of its function's docstring."""
    found = []
    for rule in current_app.url_map.iter_rules():
        method = min((rule.methods or set()) - {"HEAD", "OPTIONS"})
        what = (current_app.view_functions[rule.endpoint].__doc__ or "").partition("\n")[0]
        found.append({"method": method, "path": rule.rule, "what": what})
    return sorted(found, key=lambda endpoint: (endpoint["path"], endpoint["method"]))
