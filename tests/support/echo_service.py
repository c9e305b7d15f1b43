"""A service that returns its environment and the request it got."""

from __future__ import annotations

from typing import Any

import yaml

from tests.support.clone import Clone
from tests.support.hosts import Hosts

APP = """
import os
import time

from flask import Flask, request

app = Flask(__name__)


@app.get("/healthz")
def healthz():
    return {"release": os.environ["RELEASE"]}


# Runs before the routes, which would refuse an upgrade.
@app.before_request
def echo():
    if request.path == "/echo":
        told = {"headers": dict(request.headers), "length": len(request.get_data()), "remote": request.remote_addr}
        return {**told, "release": os.environ["RELEASE"]}
    return None


@app.get("/environ")
def environ():
    return {name.decode(): value.hex() for name, value in os.environb.items()}


@app.get("/slow/<float:seconds>")
def slow(seconds):
    time.sleep(seconds)
    return {"release": os.environ["RELEASE"]}
"""


def description(**changes: Any) -> str:
    """Return its service.yaml, with a quick health gate; a change of None removes a key."""
    service: dict[str, Any] = {
        "name": "myapp",
        "app": "echo:app",
        "health": {"path": "/healthz", "passes": 1, "settle": 0},
        "probation": 0,
        "nginx": {"server_name": "myapp.example"},
        **changes,
    }
    return yaml.safe_dump({key: value for key, value in service.items() if value is not None}, allow_unicode=True)


def put(clone: Clone, **changes: Any) -> Clone:
    """Replace the clone's service by this one."""
    clone.write("service/echo.py", APP)
    clone.write("service/service.yaml", description(**changes))
    return clone


def deployed(clone: Clone, hosts: Hosts, **changes: Any) -> Clone:
    """Deploy this service to the first host."""
    clone.inventory = hosts.inventory
    put(clone, **changes).done("deploy", "-H", "shire01")
    return clone
