"""Services behind one name, each below its path."""

from __future__ import annotations

import json

from tests.support.clone import Clone
from tests.support.echo_service import APP, description
from tests.support.front_door import NAME, ask

PAGES = """

from flask import redirect, url_for


@app.get("/go")
def go():
    return redirect(url_for("healthz", _external=True))


@app.get("/lead")
def lead():
    return "not led", {"X-Accel-Redirect": "/shop/.application-shop"}
"""
SHARED = {"server_name": [NAME, "www.myapp.example"], "hsts": 300, "error_page": "pages/502.html"}


def put(clone: Clone, name: str, **nginx: object) -> Clone:
    """Write the service of this name, below the path of that name."""
    given = {**SHARED, "path": f"/{name}", "static": {"/static/": "static"}, "balancer_check": True, **nginx}
    present = {key: value for key, value in given.items() if value is not None}
    clone.write("service/echo.py", APP + PAGES)
    clone.write("service/static/name.txt", name)
    clone.write("pages/502.html", f"<p>{name} is down")
    clone.write("service/service.yaml", description(name=name, nginx=present))
    return clone


def check(address: str, name: str, release: str, host: str = NAME) -> None:
    """Assert that a service answers below its path, and knows it."""
    answer = ask(address, f"/{name}/echo", host)
    told = json.loads(answer.body)
    assert told["release"] == release
    assert told["headers"]["X-Forwarded-Prefix"] == f"/{name}"
    assert answer.headers["strict-transport-security"] == "max-age=300"
    assert ask(address, f"/{name}/go", host).headers["location"] == f"https://{host}/{name}/healthz"
    moved = ask(address, f"/{name}?a=b", host)
    assert (moved.status, moved.headers["location"]) == (301, f"https://{host}/{name}/?a=b")
    assert ask(address, f"/{name}/static/name.txt", host).body == name.encode()
    assert ask(address, f"/{name}/static/none.txt", host).status == 404
    assert ask(address, f"/{name}/healthz", address, 80).status == 200


def check_outside(address: str, host: str = NAME) -> None:
    """Assert that nothing is answered outside of the paths `/shop` and `/cart`."""
    for path in ("/", "/echo", "/shopping/echo", "/shop/../cart/echo", "/%73hop/echo", "/healthz"):
        assert ask(address, path, host).status == 404, path
