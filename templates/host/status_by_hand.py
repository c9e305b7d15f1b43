"""Print the facts about the service for an operator on this host, and what to type next. Reads only."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from typing import Any

from . import activity, by_hand, facts, locks, rollback_stack
from .run import Run, printable, utc_now

_LAST = 5
"""Lines of the history to show."""


def perform(run: Run) -> None:
    """Print the status. The step is that of the last activation of this host, as `by_hand` changed it."""
    step = run.step
    answer = facts.ask(run, frozenset({"health", "survey"}))
    status = ServiceStatus(step["name"], step["root"], answer, step["front"]["listen"])
    lines = [("service", f"{status.name} on {os.uname().nodename}, at {utc_now()}"), *status.lines()]
    text = "".join(f"{word:<12} {printable(text)}\n" for word, text in [*lines, ("next", status.next_step())])
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


class ServiceStatus:
    """The state of one service, from its facts. slot: the live one; listen: its address, empty without one."""

    def __init__(self, name: str, root: str, answer: facts.Answer, listen: str) -> None:
        self.name, self._root = name, root
        self._closed = f"ON: clients get 503{f'; `listen: {listen}` stays open' if listen else ''}"
        self._state, self._survey = answer.members["state"], answer.members["survey"]
        self._history = _objects(text for word, text in answer.lines if word == "history")
        self._switches = [action for action in self._history if action.get("action") in rollback_stack.ACTIONS]
        self._kept = [str(row.get("id")) for row in _objects(text for word, text in answer.lines if word == "release")]
        self.slot = self._state["live"] or self._state["current"]
        self._serves, self._committed = self._release(self.slot), self._release(self._state["current"])
        paths = [f"{locks.RUN}/{name}/lock/{lock}" for lock in ("activate", "run")]
        self._holders = list(dict.fromkeys(_holder(activity.last_line(path)) for path in paths if activity.held(path)))

    def _release(self, slot: str) -> str:
        return str(self._state["slots"][slot]["release"]) if slot else ""

    def lines(self) -> list[tuple[str, str]]:
        """Return the lines of the status: a word and its text."""
        state, health = self._state, self._state["health"]
        well = "healthy" if self._well else "NOT HEALTHY"
        asked = f"{well}; slot: {health['slot']}; front door: {health['front']}" if health["slot"] else "slot is not up"
        committed = f"{self._committed}, which a boot starts" if self._committed else "none"
        units = {f"{self.name}@{name}.service": slot["state"] for name, slot in state["slots"].items()}
        units = {f"{self.name}.service": state["main_unit"], "nginx.service": state["nginx"], **units}
        return [
            ("live", self._live()),
            ("committed", committed),
            ("health", asked),
            ("probation", self._probation()),
            ("maintenance", "off" if state["maintenance"] is None else self._closed),
            ("lock", "; ".join(self._holders) or "free"),
            *(("unit", f"{unit} {active or 'unknown'}") for unit, active in {**units, **state["processes"]}.items()),
            ("disk", f"{self._survey['free_bytes'] / 1e9:.1f} GB free"),
            *(("kept", f"{kept} {self._came(kept)}") for kept in sorted(self._kept, key=self._came, reverse=True)),
            *(("history", _event(action)) for action in self._history[-_LAST:]),
        ]

    @property
    def _well(self) -> bool:
        return bool(self._state["health"] == {"slot": "ok", "front": "ok"})

    def _live(self) -> str:
        if not self._serves:
            return "nothing is deployed"
        began = self._state["slots"][self.slot]["began"]
        up = f", up for {self._survey['uptime'] - began} s" if began else ""
        return f"{self._serves} on slot {self.slot} {self._came(self._serves)}{up}"

    def _came(self, release: str) -> str:
        """Return the time and the author of the last activation of a release."""
        came = [row for row in self._switches if row["release"] == release and row["state"] in {"done", "probation"}]
        return f"since {came[-1]['time']} ({came[-1]['action']} by {_person(came[-1])})" if came else ""

    def _probation(self) -> str:
        left = self._state["probation"]
        if left is None:
            waits = "; the host waits for the last requests to the slot that serves no longer"
            return f"none{waits if self._state['finishing'] else ''}"
        end = time.strftime("%H:%M:%SZ", time.gmtime(time.time() + left))
        return f"{left} s more, until {end}; if the release fails, the host goes back to {self._committed} by itself"

    def next_step(self) -> str:
        """Return the command to type, or what to wait for."""
        state, look, back = self._state, f"journalctl -u {self.name}@{self.slot}.service -n 50", self._back()
        deploy = "fab deploy, from a controller"
        go = by_hand.command("activate", back) if back else deploy
        slot = state["slots"][self.slot]["state"] if self.slot else ""
        if state["abandoned"]:
            return "nothing: the run is abandoned; it ends within minutes, or the next run ends it"
        if self._holders:
            return "wait for the end of what is at work, and look again"
        if not self._serves:
            return deploy
        if slot in {"inactive", "failed"}:
            instead = f"back to the release before: {go}" if back else go
            return f"as root: systemctl start {self.name}; or {instead}"
        if state["nginx"] in {"inactive", "failed"} and state["health"]["front"] != "ok":
            return "as root: systemctl start nginx"
        if state["probation"] is not None:
            return f"nothing: the host decides by itself. Back at once: {go}"
        if self._serves != self._committed:
            return f"no guard watches {self._serves}, and a boot starts {self._committed}. Back: {go}"
        if not self._well:
            return f"{look}; back to the release before: {go}"
        if state["maintenance"] is not None:
            return f"to let clients in: rm -r {self._root}/maintenance"
        return f"nothing. Back to the release before: {go}" if back else "nothing"

    def _back(self) -> str | None:
        """Return the release that a rollback activates."""
        if self._serves != self._committed:
            return self._committed
        done = [(action["action"], action["release"]) for action in self._switches if action["state"] == "done"]
        return rollback_stack.previous(rollback_stack.stack(done), self._committed, self._kept)


def _objects(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Parse lines of JSON objects, with the keys of the history as texts; leave out any other line."""
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append({**row, **{key: str(row.get(key, "")) for key in ("time", "action", "release", "state")}})
    return rows


def _person(action: dict[str, Any]) -> str:
    who = action.get("who")
    return f"{who.get('git') or who.get('user')} on {who.get('host')}" if isinstance(who, dict) else "?"


def _event(action: dict[str, Any]) -> str:
    why = f": {action['why']}" if action.get("why") else ""
    return f"{action['time']} {action['action']} {action['release']} {action['state']} by {_person(action)}{why}"


def _holder(line: str) -> str:
    (run,) = _objects([line]) or [{}]
    return f"{run['action']} {run['release']} by {_person(run)}, since {run['time']}" if run else "an unknown process"
