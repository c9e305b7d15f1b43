"""The health gate: a slot answers as it should, several times in a row, from one and the same set of processes."""

from __future__ import annotations

import re

from . import units
from .folders import Folder
from .locks import PROC
from .probe import Probe
from .run import Failed, Run, now

_LONGEST = 5
"""Seconds that an answer may take."""


class Processes:
    """The main process of a slot and its workers, as they were at the last look, and what systemd says of them."""

    def __init__(self, unit: str, *, recycles: bool) -> None:
        self._unit, self._recycles = unit, recycles
        self._held: set[str] = set()
        self._held_main = ""
        self._workers: set[str] = set()
        self.main = self.state = self.restarts = self.result = ""

    def look(self) -> bool:
        """Ask systemd; False where it does not answer."""
        shown = units.show(self._unit, "MainPID", "NRestarts", "ActiveState", "Result")
        if not shown:
            return False
        self.main, self.restarts = shown.get("MainPID", ""), shown.get("NRestarts", "")
        self.state, self.result = shown.get("ActiveState", ""), shown.get("Result", "")
        self._workers = set()
        self._read_workers()
        return True

    def glance(self) -> None:
        """As long as the workers can be read the main process is who it was, and nobody has to be asked about it."""
        if not (self._held_main and self._read_workers()):
            self.look()

    def _read_workers(self) -> bool:
        try:
            with open(f"{PROC}/{self.main}/task/{self.main}/children", encoding="utf-8") as file:
                self._workers = set(file.read().split())
        except (OSError, ValueError):
            return False
        return True

    @property
    def same(self) -> bool:
        """Whether all who were there at the last look are there now. More may have come: they are forked one by one."""
        there = {self.main, *self._workers}
        gone = self._held - there
        if gone and (self._held_main in gone or not self._recycles):
            return False
        self._held, self._held_main = there, self.main
        return True

    @property
    def same_main(self) -> bool:
        """Whether it is active, was never restarted, and its main process is who it was."""
        return (self.state, self.restarts) == ("active", "0") and self._held_main in {"", self.main}


def processes(probe: Probe, slot: str) -> Processes:
    """Those of a slot, before the first look."""
    service = probe.service
    with Folder.open(f"{service.root}/releases/{probe.release}") as release:
        return Processes(service.slot(slot), recycles=_recycles(release))


def _recycles(release: Folder) -> bool:
    """Whether workers end by themselves after so many requests: then their end is no sign of anything."""
    for path in ("run/web", "code/gunicorn.conf.py"):
        try:
            if re.search(b"max.requests", release.read(path, 1 << 20)):
                return True
        except OSError:
            continue
    return False


class Gate:
    """What a candidate has to pass. former: whether something serves that may have harmed it."""

    def __init__(self, run: Run, probe: Probe, slot: str, *, former: bool) -> None:
        self._run, self._probe, self._slot, self._former = run, probe, slot, former
        self._processes = processes(probe, slot)

    def hold(self, started: float) -> None:
        """`passes` answers in a row, over at least `settle` seconds; Failed otherwise. started: when the slot was."""
        run, health = self._run, self._probe.service.health
        run.say("check", f"{self._probe.path} on slot {self._slot}")
        began, passes, first, reason = now(), 0, 0.0, "it was never asked"
        # A socket whose service has died keeps its callers waiting: short at first, so that a dead one shows soon. But
        # who was slow to start, on a host that has much to do, may be as slow to answer.
        limit = min(_LONGEST, 1 + int((began - started) * 2))
        while True:
            # With nobody left to hear it, this ends the run at once, not when the time is up.
            run.report("pass", str(passes))
            self._processes.glance()
            self._require_same()
            answer = self._probe.slot(self._slot, limit)
            if answer.well:
                first = first if passes else now()
                passes += 1
                if passes >= health.passes and now() - first >= health.settle:
                    break
                run.pause(health.pause)
            else:
                passes, reason, limit = 0, answer.why, min(_LONGEST, limit + 1)
                run.pause(0.1)
            if now() - began >= health.timeout:
                raise Failed(f"the health check did not hold in {health.timeout} s: {reason}")
        self._processes.glance()
        self._require_same()

    def look(self) -> str:
        """How systemd says that the slot ended, such as `signal`; empty where it does not answer."""
        return self._processes.result if self._processes.look() else ""

    def _require_same(self) -> None:
        seen = self._processes
        if seen.restarts not in {"", "0"} or seen.state == "failed":
            raise self.ended("the service died while it was checked")
        if not seen.same:
            raise self.ended("a worker died while it was checked")

    def ended(self, why: str) -> Failed:
        """A process of the candidate has ended: why, and whether somebody else may have done that.

        What serves is of the same account; nobody here has sent a signal.
        """
        for _ in range(20):
            # Where a worker cannot begin its work, all of it ends in the next moments, by itself: that was nobody else.
            if self._processes.result in {"exit-code", "signal"}:
                break
            self._run.pause(0.1)
            self._processes.look()
        step = self._run.step
        if self._processes.result != "exit-code" and self._former and not step["stop_first"]:
            self._run.report("killed", f"{step['action']} {step['release']}")
        signalled = self._processes.result == "signal"
        return Failed(f"{why}: a signal has ended it" if signalled else why)
