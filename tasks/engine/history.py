"""What was done on a host, from its history.jsonl: one line before (started), one after (done or failed). Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

_SWITCHES = ("deploy", "rollback", "restart", "undo")


@dataclass(frozen=True)
class Action:
    """One line. time: RFC 3339, UTC. who: as the controller said it, never trusted for rights."""

    time: str
    run: str
    action: str
    release: str
    state: str
    who: dict[str, str]

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {
            "time": self.time,
            "run": self.run,
            "action": self.action,
            "release": self.release,
            "state": self.state,
            "who": self.who,
        }


def parse(lines: Iterable[str]) -> tuple[Action, ...]:
    """The actions, the oldest first; a line that a power cut left half-written is left out."""
    actions = []
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if not isinstance(found, dict):
            continue
        who = found.get("who")
        texts = [str(found.get(key, "")) for key in ("time", "run", "action", "release", "state")]
        people = {str(key): str(value) for key, value in who.items()} if isinstance(who, dict) else {}
        time, run, action, release, state = texts
        actions.append(Action(time, run, action, release, state, people))
    return tuple(actions)


def stack(actions: Iterable[Action]) -> tuple[str, ...]:
    """The releases that a rollback goes back through, the one that serves last.

    A deploy that was committed is put on top; a rollback or undo takes off whatever lies above its target. So a release
    that was rolled back from is not gone back to, and deploying and rolling back in turn never goes in a circle.
    """
    releases: list[str] = []
    for action in actions:
        if action.state != "done" or action.action not in _SWITCHES:
            continue
        if action.action in ("rollback", "undo") and action.release in releases:
            del releases[releases.index(action.release) + 1 :]
        elif not releases or releases[-1] != action.release:
            releases.append(action.release)
    return tuple(releases)


def previous(actions: Iterable[Action], current: str, there: Iterable[str]) -> str | None:
    """What a rollback goes back to: the release before the current one that is still on the host."""
    present = set(there)
    passed = stack(actions)
    if current in passed:
        passed = passed[: len(passed) - 1 - passed[::-1].index(current)]
    return next((release for release in reversed(passed) if release in present and release != current), None)
