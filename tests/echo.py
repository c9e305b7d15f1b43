"""A service that says what it was given: its environment, and the request as it came in."""

from __future__ import annotations

from typing import Any

import yaml

from tests.clone import Clone
from tests.hosts import Hosts

APP = """
import os
import time

from flask import Flask, request

app = Flask(__name__)


@app.get("/healthz")
def healthz():
    return {"release": os.environ["RELEASE"]}


# Before the routes, which refuse an upgrade that none of them asked for.
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
    """Its service.yaml, with a gate that is quick; a change of None takes a key out."""
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
    """Let the clone's service be this one."""
    clone.write("service/echo.py", APP)
    clone.write("service/service.yaml", description(**changes))
    return clone


def deployed(clone: Clone, hosts: Hosts, **changes: Any) -> Clone:
    """This service on the first of the hosts."""
    clone.inventory = hosts.inventory
    put(clone, **changes).done("deploy", "-H", "shire01")
    return clone
