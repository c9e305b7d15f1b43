"""The service that a step is about, as values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Health(NamedTuple):
    """The health check: `passes` answers of exactly `status` in a row, over at least `settle` s, within `timeout` s.

    start_timeout: seconds that a slot may take to start.
    """

    path: str
    status: int
    timeout: int
    start_timeout: int
    passes: int
    settle: float

    @property
    def pause(self) -> float:
        """Seconds between two right answers."""
        return self.settle / max(1, self.passes - 1)


class Front(NamedTuple):
    """The front door. kind: https or http (nginx), or listen; listen: the address of `listen:`.

    prefix: the path below which nginx has the service; empty: all of them
    """

    kind: str
    host: str
    listen: str
    prefix: str


class Process(NamedTuple):
    """One unit beside `web` in each slot. unit: its name without the slot; name: in service.yaml, and of its launcher.

    single: there may never be two; stop: seconds that a task under way may take; health: its command, may be empty.
    """

    unit: str
    name: str
    single: bool
    stop: int
    health: tuple[str, ...]

    def of(self, slot: str) -> str:
        """Return the unit in a slot."""
        return f"{self.unit}@{slot}.service"


class Service(NamedTuple):
    """One service. root: its directory; drain: seconds; grace: seconds that gunicorn waits longer than drain.

    timers: they start jobs, which have no slot.
    enabled: the units that a boot starts.
    """

    name: str
    root: str
    drain: int
    grace: int
    health: Health
    front: Front
    processes: tuple[Process, ...]
    timers: tuple[str, ...]
    enabled: tuple[str, ...]

    def slot(self, name: str) -> str:
        """Return the unit of a slot."""
        return f"{self.name}@{name}.service"

    def guard(self, slot: str) -> str:
        """Return the guard's unit of a slot: it guards a run that activates there, and watches the release."""
        return f"{self.name}-probation@{slot}.service"

    def hook(self, slot: str) -> str:
        """Return the unit that runs before_activate of the release in a slot."""
        return f"{self.name}-hook@{slot}.service"

    def socket(self, slot: str) -> str:
        """Return the path of a slot's socket."""
        return f"/run/{self.name}/{slot}.sock"


def of(step: Mapping[str, Any]) -> Service:
    """Return the service that a step is about."""
    return Service(
        step["name"],
        step["root"],
        step["drain"],
        step["grace"],
        Health(**step["health"]),
        Front(**step["front"]),
        tuple(Process(**{**process, "health": tuple(process["health"])}) for process in step["processes"]),
        tuple(step["timers"]),
        tuple(step["enabled"]),
    )
