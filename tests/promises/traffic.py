"""The traffic application as the service of a clone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from tests.clone import Clone
from tests.front import NAME
from tests.hosts import Hosts
from tests.promises.load import Load
from tests.site import Site

APP = Path(__file__).with_name("traffic_app.py")
DRAIN = 2
"""Seconds; an event stream that is held open makes each switch take as long."""


def description(**changes: Any) -> str:
    """Its service.yaml, with a gate that is quick and threads for all that hangs; a change of None takes a key out."""
    service: dict[str, Any] = {
        "name": "myapp",
        "app": "traffic_app:app",
        "processes": {"web": {"workers": 2, "threads": 24}},
        "health": {"path": "/healthz", "passes": 1, "settle": 0},
        "drain": DRAIN,
        "probation": 0,
        "nginx": {"server_name": NAME},
        **changes,
    }
    return yaml.safe_dump({key: value for key, value in service.items() if value is not None})


def put(clone: Clone, **changes: Any) -> Clone:
    """Let it be the clone's service, and nothing else; the lock stays, which has what it needs."""
    service = clone.root / "service"
    for path in service.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif not path.name.startswith("requirements"):
            path.unlink()
    shutil.copy(APP, service)
    clone.write("service/service.yaml", description(**changes))
    return clone


def deployed(clone: Clone, hosts: Hosts, **changes: Any) -> Site:
    """The clone as this service, which all the hosts serve."""
    clone.inventory = hosts.inventory
    put(clone, **changes).done("deploy", "-H", "all", "--canary", "0", "--batch", "100%")
    return Site(clone, hosts[0])


def switches(load: Load, site: Site, old: str, new: str) -> None:
    """A deploy of the new one, the way back, and a restart; a window of the load each."""
    for verb, served in (("deploy", (old, new)), ("rollback", (new, old)), ("restart", (old,))):
        with load.during(verb, {site.machine.address: served}):
            site.done(verb)
