"""The processes beside `web`: units of each slot, which start, hold and stop with the release there.

The new ones start beside the old ones, and the release holds only if they stay up. At the switch the old ones are told
to stop: a task under way ends in its own time, and only the run that needs the slot again waits for it. Of a process
that is `single` there are never two: the old one has ended before the new one starts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from . import command, memory, run_units, units
from .run import Failed, Run, now
from .service import Process, Service
from .units import systemctl

_PROPERTIES = ("ActiveState", "SubState", "Job", "NRestarts", "Result", "ExecMainStatus",
               "ActiveEnterTimestampMonotonic")  # fmt: skip
_OVER = {"inactive", "failed", "unknown"}
_MARGIN = 10
"""Seconds beyond its own limit that a stop may take: systemd kills at that limit."""
_LEAST = 1
"""Seconds that a process must stay up: for systemd a command that ends at once has started."""
_COMMAND = 10
"""Seconds that a health command may take."""
_OFTEN, _SELDOM = 1, 5
"""Seconds between two health commands of a process: at the health gate, and on probation."""
_MISSES = 2
"""Failed health commands in a row at which a release on probation fails."""


class ProcessUnits:
    """The processes of a service in either slot."""

    def __init__(self, run: Run, service: Service) -> None:
        self._run, self._service = run, service
        self._groups = [[process for process in service.processes if process.single == single] for single in (0, 1)]
        self._commands: dict[str, _HealthCommand] = {}
        self._since = time.time()
        self._entered = 0.0
        """When the newest process that `_require_up` asked for became active, by the monotonic clock."""
        self.failed = ""
        """The unit whose process did not hold."""
        self.signalled = False
        """True if a signal ended the process of `failed`."""

    # Start and stop

    def start(self, slot: str, *, single: bool = False) -> None:
        """Start the single processes of a slot, or the others; systemd skips those that its release does not have."""
        names = [process.of(slot) for process in self._groups[single]]
        self._do("start", "--no-block", names)

    def replace(self, slot: str, former: str) -> None:
        """Tell the processes of the former slot to stop, and start those of this one. former: may be empty."""
        if former:
            self._do("stop", "--no-block", [process.of(former) for process in self._groups[False]])
            self._end(former, self._groups[True])
        self.start(slot)
        self.start(slot, single=True)

    def begin_stop(self, slot: str) -> None:
        """Tell all processes of a slot to stop, and forget their failures; wait for none."""
        for group in self._groups:
            names = [process.of(slot) for process in group]
            self._do("stop", "--no-block", names)
            if names:
                systemctl("reset-failed", *names).wait()

    def end(self, slot: str, *, at_once: bool) -> None:
        """Wait until all processes of a slot have ended. at_once: kill them first."""
        for group in self._groups:
            self._end(slot, group, at_once=at_once)

    def _end(self, slot: str, group: list[Process], *, at_once: bool = False) -> None:
        names = [process.of(slot) for process in group]
        if not names:
            return
        going = [unit for unit, state in zip(names, units.states(*names)) if state not in _OVER]
        if going and at_once:
            systemctl("kill", "-s", "KILL", *names).wait()
        elif going:
            longest = max(process.stop for process in group if process.of(slot) in going)
            self._run.say("wait", f"until {' and '.join(going)} has ended its task: {longest} s at most")
        stopping = systemctl("stop", *names)
        stopping.await_end(self._run, max(process.stop for process in group) + _MARGIN)
        systemctl("reset-failed", *names).wait()

    def _do(self, verb: str, flag: str, names: list[str]) -> None:
        if names and not systemctl(verb, flag, *names).wait() and not self._run.ending:
            raise Failed(f"systemd does not {verb} {' '.join(names)}: fab setup writes the sudo rules for that")

    # Check

    def await_up(self, slot: str, release: str, since: float, *, single: bool = False) -> None:
        """Wait until processes have run for `settle` seconds, or raise Failed. since: systemd was told to start them.

        single: wait for the single processes, else for the others
        """
        health, group = self._service.health, self._there(release, self._groups[single])
        settle = max(health.settle, _LEAST)
        while group:
            pending = self._require_up(slot, group)
            unwell = "" if pending else self._unwell(slot, release, group, _OFTEN, 1)
            # A busy systemd may have started them only now.
            up = min(now() - since, time.monotonic() - self._entered)
            if not pending and not unwell and up >= settle:
                return
            if now() - since >= health.timeout:
                raise Failed(unwell or f"{pending or group[0].of(slot)} did not start in {health.timeout} s")
            self._run.pause(0.1)

    def require_well(self, slot: str, release: str) -> None:
        """Raise Failed if a process of the release did not stay up, or its health command fails."""
        group = self._there(release, [process for group in self._groups for process in group])
        if group and not self._require_up(slot, group):
            why = self._unwell(slot, release, group, _SELDOM, _MISSES)
            if why:
                raise Failed(why)

    def _there(self, release: str, group: list[Process]) -> list[Process]:
        """Return the processes that a release has."""
        place = f"{self._service.root}/releases/{release}/run"
        return [process for process in group if os.path.exists(f"{place}/{process.name}")]

    def _require_up(self, slot: str, group: list[Process]) -> str:
        """Raise Failed if a process did not stay up; return the unit of one that is about to start, if any."""
        pending, self._entered = "", 0.0
        for unit, shown in units.show_all([process.of(slot) for process in group], *_PROPERTIES).items():
            entered = shown.get("ActiveEnterTimestampMonotonic", "")
            self._entered = max(self._entered, int(entered) / 1e6 if entered.isdigit() else 0.0)
            if shown.get("Job", "0") not in {"", "0"}:
                pending = unit
            elif why := _why_down(shown):
                signalled = shown.get("Result") == "signal"
                starved = memory.fault(unit, self._since, signalled=signalled)
                self.failed, self.signalled = unit, signalled and not starved
                beside = run_units.beside(self._service.name) if self.signalled else ""
                raise Failed(f"{unit} does not stay up: {why}{starved or beside}")
        return pending

    def _unwell(self, slot: str, release: str, group: list[Process], pause: float, most: int) -> str:
        """Ask each health command, again after `pause` seconds; return why one failed `most` times in a row."""
        for process in group:
            if not process.health:
                continue
            unit = process.of(slot)
            asked = self._commands.setdefault(unit, _HealthCommand(self._service.name, process, release))
            if asked.misses(pause) >= most:
                self.failed = unit
                return f"the health command of {unit} fails: {asked.why}"
        return ""


class _HealthCommand:
    """The health command of one process of a release. why: the reason of its last failure."""

    def __init__(self, name: str, process: Process, release: str) -> None:
        self._name, self._process, self._release = name, process, release
        self._next = 0.0
        self._missed = 0
        self.why = ""

    def misses(self, pause: float) -> int:
        """Return how often in a row it failed; ask it again after `pause` seconds."""
        if now() >= self._next:
            ended = command.result(self._name, self._process.health, self._process.name, self._release, _COMMAND)
            self._missed = self._missed + 1 if ended.status != 0 else 0
            status = f"exit status {ended.status}" if ended.status is not None else "no exit status"
            self.why = f"{status}: {ended.text}" if ended.text else status
            self._next = now() + pause
        return self._missed


def _why_down(shown: Mapping[str, str]) -> str:
    """Return why a process is not up, or was not all the time; empty if it was."""
    state, restarts = shown.get("ActiveState", ""), shown.get("NRestarts", "0")
    if state == "active":
        return f"it ended, and systemd started it again ({restarts})" if restarts not in {"", "0"} else ""
    if state == "activating" and shown.get("SubState") != "auto-restart":
        return ""
    result, status = shown.get("Result", ""), shown.get("ExecMainStatus", "")
    words = {"exit-code": f"it ended with exit status {status}", "signal": f"signal {status} ended it",
             "success": "it ended"}  # fmt: skip
    return words.get(result, result) or f"it is {state or 'unknown'}"
