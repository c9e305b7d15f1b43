"""Read a host's history.jsonl: for each action one line before it (started), and one after it. Pure.

After a switch a line may report a probation. The line after that: done; returned, if the host went back by itself;
failed, if the release failed and the traffic could not go back; or ended, by the next run, a stop or a shutdown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import NamedTuple

from tasks.engine import untrusted_json
from templates.host import rollback_stack

_OPEN = ("started", "probation")
LONGEST = 100_000
"""Lines at the end of a history that a question asks for at most."""
SHOWN, _FORMER = 1000, 200
"""Lines of a host to show by default, and older switches that a host adds to the lines that it is asked for."""
_MOST = 50
"""Actions without an outcome to report, the newest; the rest is counted."""
# Limits for one action: characters of a text, characters of `why`, keys of `who`.
_TEXT, _WHY, _KEYS = 200, 2000, 20


class Action(NamedTuple):
    """One line. time: RFC 3339, UTC; state: started, probation, done, failed, returned or ended.

    why: the reason, for the states failed, returned and ended
    who: the user, as the controller reported it, never trusted for rights
    """

    time: str
    run: str
    action: str
    release: str
    state: str
    who: dict[str, str]
    why: str = ""

    def as_dict(self) -> dict[str, object]:
        """Return plain data for JSON."""
        return {
            "time": self.time,
            "run": self.run,
            "action": self.action,
            "release": self.release,
            "state": self.state,
            "who": self.who,
            **({"why": self.why} if self.why else {}),
        }


def parse(lines: Iterable[str]) -> tuple[Action, ...]:
    """Return the actions, the oldest first; skip a line that a power cut left incomplete."""
    actions = []
    for line in lines:
        try:
            entry = untrusted_json.load(line)
        except ValueError:
            continue
        if not isinstance(entry, dict):
            continue
        who = entry.get("who")
        texts = [str(entry.get(key, ""))[:_TEXT] for key in ("time", "run", "action", "release", "state")]
        known = islice(who.items(), _KEYS) if isinstance(who, dict) else ()
        user = {str(key)[:_TEXT]: str(value)[:_TEXT] for key, value in known}
        time, run, action, release, state = texts
        actions.append(Action(time, run, action, release, state, user, str(entry.get("why", ""))[:_WHY]))
    return tuple(actions)


def newest(actions: tuple[Action, ...], last: int) -> tuple[Action, ...]:
    """Return the newest, `last` at most; for 0 those to show by default. A host may send more than it was asked for."""
    return actions[-(last or SHOWN + _FORMER) :]


def person(text: str) -> str:
    """Return the same as `author`, from JSON."""
    try:
        who = untrusted_json.load(text)
    except ValueError:
        return "an unknown user"
    if not isinstance(who, dict):
        return "an unknown user"
    return author(who)[:_TEXT]


def author(who: Mapping[str, object]) -> str:
    """Return the user of a run and the machine that started it, from what the run's controller recorded."""
    return f"{who.get('git') or who.get('user')} (on {who.get('host')})"


def stack(actions: Iterable[Action]) -> tuple[str, ...]:
    """Return the releases that a rollback goes back through, the current one last."""
    switched = (action for action in actions if action.state == "done" and action.action in rollback_stack.ACTIONS)
    return tuple(rollback_stack.stack((action.action, action.release) for action in switched))


def previous(actions: Iterable[Action], current: str, there: Iterable[str]) -> str | None:
    """Return the release that a rollback activates: the one before the current one that is still on the host."""
    return rollback_stack.previous(list(stack(actions)), current, set(there))


class Finding(NamedTuple):
    """A remark on a history for its reader. wrong: whether the history and the host disagree."""

    wrong: bool
    text: str


def verify(
    actions: tuple[Action, ...], *, current: str | None, settled: bool, busy: bool, torn: int = 0
) -> tuple[Finding, ...]:
    """Check that each action that began has an outcome, and that the release activated last is the committed one.

    settled: the committed slot serves, and nothing is left of a run. busy: a run is at work on the host now.
    """
    findings = [
        Finding(False, f"{torn} {'line is' if torn == 1 else 'lines are'} not whole: the host lost power as it wrote")
    ] * bool(torn)
    ended = {_key(action) for action in actions if action.state not in _OPEN}
    places = range(len(actions))
    done = [
        place for place in places if actions[place].state == "done" and actions[place].action in rollback_stack.ACTIONS
    ]
    begun = [place for place in places if actions[place].state == "started"]
    cut = [place for place in begun if _key(actions[place]) not in ended]
    latest = max(done[-1:], default=-1)
    if len(cut) > _MOST:
        more = len(cut) - _MOST
        findings.append(Finding(cut[more - 1] > latest, f"{more} more actions before these were cut off"))
    for place in cut[-_MOST:]:
        under_way = busy and place == cut[-1]
        findings.append(_unfinished(actions[place], current, settled=settled, busy=under_way, later=place < latest))
    last = actions[done[-1]].release if done else None
    committed = bool(cut) and actions[cut[-1]].action in rollback_stack.ACTIONS and actions[cut[-1]].release == current
    if current != last and not committed and not busy:
        text = f"the last release that was activated is {last or 'none'}, and {current or 'none'} is committed"
        findings.append(Finding(True, f"{text}: it was changed by hand, or lines are missing"))
    return tuple(findings)


def _key(action: Action) -> tuple[str, str, str]:
    """Return what the lines of one action have in common."""
    return action.run, action.action, action.release


def _unfinished(action: Action, current: str | None, *, settled: bool, busy: bool, later: bool) -> Finding:
    """Explain an action that has no outcome. later: whether a later run was done."""
    what = f"{action.action} of {action.release or 'nothing'} ({action.time}, run {action.run})"
    if busy:
        return Finding(False, f"{what} is under way")
    if later:
        return Finding(False, f"{what} was cut off; a later run has put that right")
    if action.action not in rollback_stack.ACTIONS:
        return Finding(True, f"{what} was cut off: run it again")
    if action.release == current:
        return Finding(
            True,
            f"{what} was cut off after the commit: {current} serves, and the steps after the commit may be missing",
        )
    committed = f"{current or 'nothing'} is committed, as before"
    remains = "nothing is left of it" if settled else "the next run clears away what is left of it"
    return Finding(True, f"{what} was cut off before the commit: {committed}; {remains}")
