"""The traffic application as the service of a clone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from tests.support.clone import Clone
from tests.support.front_door import NAME
from tests.support.hosts import Hosts
from tests.support.site import Site
from tests.traffic.load import Load

APP = Path(__file__).with_name("traffic_app.py")
DRAIN = 2
"""Seconds; each switch takes as long while an event stream is open."""


def description(**changes: Any) -> str:
    """Return its service.yaml, with a quick gate and threads for slow requests; a change of None removes a key."""
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
    """Make it the clone's service, and nothing else; the lock stays, as it has what it needs."""
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
    """Deploy the clone with this service to all the hosts."""
    clone.inventory = hosts.inventory
    put(clone, **changes).done("deploy", "-H", "all", "--canary", "0", "--batch", "100%")
    return Site(clone, hosts[0])


def switches(load: Load, site: Site, old: str, new: str) -> None:
    """Deploy the new release, roll back, and restart; one window of the load each."""
    for verb, served in (("deploy", (old, new)), ("rollback", (new, old)), ("restart", (old,))):
        with load.during(verb, {site.machine.address: served}):
            site.done(verb)
