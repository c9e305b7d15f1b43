"""Read the state of a service on this host from its links, its units and its locks. Changes nothing."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from . import activity, locks, units
from .background import Background
from .change_lock import Until
from .fact_schema import Answers, Slot, State
from .folders import Folder
from .probe import ANSWER, Probe
from .run import now
from .service import Service
from .slot_names import SLOTS, slot_of

PROPERTIES = ("ActiveState", "MainPID", "NRestarts", "ActiveEnterTimestampMonotonic", "MemoryCurrent", "ControlGroup",
              "Result", "ExecMainStatus", "ExecMainStartTimestampMonotonic", "ExecMainExitTimestampMonotonic",
              "IPAccounting", "IPIngressBytes", "InvocationID")  # fmt: skip
_OVERDUE = 60
"""Seconds beyond its drains after which a guard counts as hung."""
_TRIES = 20
_TIMES = 3
"""Looks at links and units: a run at work may change the links at each."""
_SAID = 1 << 16
"""Characters to report of a text."""

Units = Mapping[str, Mapping[str, str]]
"""Properties as systemd reports them, by unit and name; a unit without an answer is left out."""


class Links:
    """The slot that is committed, the one that has the traffic, the release in each, and the guard's task.

    A step that acts reads the same links by `Slots`, which raises an error for a directory that is missing; here an
    absent or unreadable link is an empty text.
    """

    def __init__(self, service: Service) -> None:
        root, places = service.root, f"{locks.RUN}/{service.name}"
        self.current = slot_of(_link(f"{root}/current"))
        self.releases = {slot: _link(f"{root}/slots/{slot}/release").rpartition("/")[2] for slot in SLOTS}
        # An older version's setup made the second link.
        self.live = slot_of(_link(f"{places}/live")) or self._former(_link(f"{places}/ctl/live"), root)
        self.tries = tuple(_names(f"{places}/try")[:_TRIES])
        # Read before the units: a guard that ends in between has stopped the former slot first.
        self.task = _task(service.name)

    def _former(self, target: str, root: str) -> str:
        return self.current if target == f"{root}/current" else slot_of(target)

    @property
    def serves(self) -> str:
        """The slot that has the traffic; without a link `live`, the committed one."""
        return self.live or self.current


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _names(path: str) -> list[str]:
    try:
        with Folder.open(path) as folder:
            return folder.names()
    except OSError:
        return []


def ask_units(service: Service, links: Links, *, surveyed: bool) -> Units:
    """Ask for all units of the service and for nginx, in one call; surveyed: more than whether each is up."""
    slots = [service.slot(slot) for slot in SLOTS]
    guards = [service.guard(slot) for slot in SLOTS]
    names = ["nginx.service", f"{service.name}.service", *slots, *guards, *processes(service, links)]
    if surveyed:
        return units.show_all([*names, *jobs(service), f"{service.name}-certificate.service"], *PROPERTIES)
    # A run needs no more than their state, which takes a tenth of the time.
    return {name: {"ActiveState": state} for name, state in units.ask_states(names).items()}


def look_at(service: Service, *, surveyed: bool) -> Look:
    """Return the links and the units of one moment: ask again, a few times, if a link has changed meanwhile."""
    for _ in range(_TIMES):
        links = Links(service)
        shown = ask_units(service, links, surveyed=surveyed)
        if vars(Links(service)) == vars(links):
            break
    return Look(service, links, shown)


def processes(service: Service, links: Links) -> list[str]:
    """Return the units beside `web` that belong to the live release, and the timers."""
    launchers = f"{service.root}/slots/{links.serves}/release/run"
    there = [process for process in service.processes if os.path.exists(f"{launchers}/{process.name}")]
    return [*(process.of(links.serves) for process in there), *service.timers]


def jobs(service: Service) -> list[str]:
    """Return the units that timers start."""
    return [f"{name[: -len('.timer')]}.service" for name in service.timers]


class Look:
    """The state of a service at one moment. units: as systemd reported them."""

    def __init__(self, service: Service, links: Links, units: Units) -> None:
        self.service, self.links, self.units = service, links, units

    def state(self, unit: str) -> str:
        """Return whether a unit is active, inactive, failed or changing; empty if systemd does not answer."""
        return self.units.get(unit, {}).get("ActiveState", "")

    def facts(self) -> State:
        """Return the state, without the health check and the directories."""
        service, links = self.service, self.links
        probation, finishing = self._probation()
        active = activity.look(service.name)
        return State(
            current=links.current,
            live=links.live,
            slots={slot: Slot(self.state(service.slot(slot)), links.releases[slot]) for slot in SLOTS},
            tries=links.tries,
            main_unit=self.state(f"{service.name}.service"),
            nginx=self.state("nginx.service"),
            processes={unit: self.state(unit) for unit in processes(service, links)},
            probation=probation,
            finishing=finishing,
            holder=active.holder,
            abandoned=active.abandoned,
            maintenance=_maintenance(service.root),
        )

    def _probation(self) -> tuple[int | None, bool]:
        """Return the seconds left of a probation, and whether a guard ends the slot that has no traffic any more."""
        links, text = self.links, self.links.task
        if links.serves == links.current:
            # After a return the guard of the other slot still has the end of the probation as its task.
            guards = SLOTS if text.isdigit() else (links.current,)
            return None, bool(links.current) and any(self._watched(slot, text) for slot in guards)
        if not text.isdigit() or not self._watched(links.live, text):
            return None, False
        return math.ceil(max(0.0, int(text) / 100 - now())), False

    def _watched(self, slot: str, text: str) -> bool:
        """Return whether a guard is at work. systemd restarts a killed one, which is activating until then."""
        digits = text.rpartition(" ")[2] if text.startswith(("taken ", "drain ")) else text
        if not digits.isdigit():
            return False
        if now() >= int(digits) / 100 + 2 * self.service.drain + self.service.grace + _OVERDUE:
            return False
        return self.state(self.service.guard(slot)) in {"active", "activating"}

    def ask_health(self, wanted: str) -> Answers:
        """Ask the live slot and the front door; nothing if the slot is not up or has not the wanted release."""
        slot = self.links.serves
        if not slot or self.state(self.service.slot(slot)) != "active":
            return Answers()
        release = self.links.releases[slot]
        if wanted not in {"", release}:
            return Answers()
        probe = Probe(self.service, release)
        by_slot = Background(lambda: probe.slot(slot, ANSWER))
        by_front = probe.front(ANSWER)
        return Answers(by_slot.result().why[:_SAID] or "ok", by_front.why[:_SAID] or "ok")


def _task(name: str) -> str:
    """Return the guard's task, as `change_lock.Until` has it; empty if there is none."""
    try:
        with Folder.open(f"{locks.RUN}/{name}/ctl/probation") as folder:
            return Until(folder).text
    except OSError:
        return ""


def _maintenance(root: str) -> str | None:
    """Return the page's state.json; None if the door is open, an empty object if it was closed by hand."""
    if not os.path.lexists(f"{root}/maintenance"):
        return None
    try:
        with Folder.open(f"{root}/maintenance") as folder:
            return folder.read("state.json", _SAID).decode("utf-8", "replace")
    except OSError:
        return "{}"
