"""What was done on a host, from its history.jsonl: one line before (started), one after. Pure.

After a switch a line may say that the release is on probation: then it is done, the host has returned by itself, or
something else has ended it: the next run, a stop, a shutdown.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from tasks.engine import untrusted_json
from templates.host import switches

_OPEN = ("started", "probation")
LONGEST = 100_000
"""Lines of a history that are asked for at most, its last."""
# What a host says of one action is cut to so many characters, and to so many words about who.
_TEXT, _WHY, _WORDS = 200, 2000, 20


class Action(NamedTuple):
    """One line. time: RFC 3339, UTC. state: started, probation, done, failed, returned or ended.

    why: of the last three. who: as the controller said it, never trusted for rights.
    """

    time: str
    run: str
    action: str
    release: str
    state: str
    who: dict[str, str]
    why: str = ""

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
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
    """The actions, the oldest first; a line that a power cut left half-written is left out."""
    actions = []
    for line in lines:
        try:
            found = untrusted_json.load(line)
        except ValueError:
            continue
        if not isinstance(found, dict):
            continue
        who = found.get("who")
        texts = [str(found.get(key, ""))[:_TEXT] for key in ("time", "run", "action", "release", "state")]
        known = islice(who.items(), _WORDS) if isinstance(who, dict) else ()
        people = {str(key)[:_TEXT]: str(value)[:_TEXT] for key, value in known}
        time, run, action, release, state = texts
        actions.append(Action(time, run, action, release, state, people, str(found.get("why", ""))[:_WHY]))
    return tuple(actions)


def person(text: str) -> str:
    """Who wrote a line, in words: from the JSON that a controller said of itself."""
    try:
        who = untrusted_json.load(text)
    except ValueError:
        return "somebody"
    if not isinstance(who, dict):
        return "somebody"
    return f"{who.get('git') or who.get('user')} (on {who.get('host')})"[:_TEXT]


def stack(actions: Iterable[Action]) -> tuple[str, ...]:
    """The releases that a rollback goes back through, the one that serves last."""
    done = ((one.action, one.release) for one in actions if one.state == "done" and one.action in switches.ACTIONS)
    return tuple(switches.stack(done))


def previous(actions: Iterable[Action], current: str, there: Iterable[str]) -> str | None:
    """What a rollback goes back to: the release before the current one that is still on the host."""
    return switches.previous(list(stack(actions)), current, set(there))


def way_back(actions: Iterable[Action], verb: str, release: str, there: Iterable[str]) -> str | None:
    """What a rollback will go back to once `verb` has activated `release`."""
    return previous([*actions, Action("", "", verb, release, "done", {})], release, there)


class Finding(NamedTuple):
    """What a history says that its reader should know. wrong: whether the host and it do not agree."""

    wrong: bool
    text: str


def verify(
    actions: tuple[Action, ...], *, current: str | None, settled: bool, busy: bool, torn: int = 0
) -> tuple[Finding, ...]:
    """Whether each action that began has an outcome, and whether the host has what was done last.

    settled: the committed slot serves, and nothing is left of a run. busy: somebody is at work there now.
    """
    found = [
        Finding(False, f"{torn} {'line is' if torn == 1 else 'lines are'} not whole: the host lost power as it wrote")
    ] * bool(torn)
    ended = {_key(one) for one in actions if one.state not in _OPEN}
    places = range(len(actions))
    done = [place for place in places if actions[place].state == "done" and actions[place].action in switches.ACTIONS]
    begun = [place for place in places if actions[place].state == "started"]
    cut = [place for place in begun if _key(actions[place]) not in ended]
    for place in cut:
        later, under_way = place < max(done[-1:], default=-1), busy and place == cut[-1]
        found.append(_unfinished(actions[place], current, settled=settled, busy=under_way, later=later))
    last = actions[done[-1]].release if done else None
    committed = bool(cut) and actions[cut[-1]].action in switches.ACTIONS and actions[cut[-1]].release == current
    if current != last and not committed and not busy:
        told = f"the last release that was done is {last or 'none'}, and {current or 'none'} is committed"
        found.append(Finding(True, f"{told}: a hand changed it, or lines are missing"))
    return tuple(found)


def _key(one: Action) -> tuple[str, str, str]:
    """What the lines of one action have in common."""
    return one.run, one.action, one.release


def _unfinished(one: Action, current: str | None, *, settled: bool, busy: bool, later: bool) -> Finding:
    """What it means that an action has no outcome."""
    what = f"{one.action} of {one.release or 'nothing'} ({one.time}, run {one.run})"
    if busy:
        return Finding(False, f"{what} is under way")
    if later:
        return Finding(False, f"{what} was cut off; a later run has put that right")
    if one.action not in switches.ACTIONS:
        return Finding(True, f"{what} was cut off: run it again")
    if one.release == current:
        return Finding(True, f"{what} was cut off after the commit: {current} serves, and what followed may be undone")
    stands = f"{current or 'nothing'} is committed, as before"
    rest = "nothing is left of it" if settled else "the next run clears away what is left of it"
    return Finding(True, f"{what} was cut off before the commit: {stands}; {rest}")
