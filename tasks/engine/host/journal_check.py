"""Compare a history, which the deploy account can write, with what PID 1 logged about the same runs. Pure.

A run starts a guard, then its slot, then moves the traffic; its lines stand before and after. Where the journal has
nothing, because it is rotated, lost or of another boot, nothing is said against the history.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from itertools import islice
from typing import NamedTuple

from tasks.engine.host.history import Action, Finding
from templates.host import rollback_stack
from templates.host.fact_schema import Boot, Event, Logged

_ACTIVATIONS = {*rollback_stack.ACTIONS, "restart"}
_ACTIONS_ON_SLOTS = {*_ACTIVATIONS, "stop"}
_SLACK = 2.0
"""Seconds by which a line and the entry of the journal beside it may differ: a line has whole seconds."""
_CLOSE = 0.2
"""The same for an entry that comes after the line, such as the start of a guard."""
_BEFORE_GUARD = 300.0
"""Seconds at most from the line of a run to its guard: static files are placed meanwhile."""
_ORDER = 15.0
"""Seconds by which a line may be older than the one above it: several programs write lines."""
_SHUTDOWN = 120.0
"""Seconds before the end of a boot in which the shutdown may have ended a guard."""
_NEVER_SHORTENED = 290_000
"""A history of fewer bytes has never been shortened: shortening keeps more than that."""
_LINES, _EVENTS, _BOOTS = 5000, 1500, 50
"""Lines, entries and boots to compare, the newest: a host reports no more unless it lies."""
_MOST = 50
"""Findings to report; the rest is counted."""
_CLOSED = {"done", "returned"}
_FAR = float("inf")


class _Run(NamedTuple):
    """The lines of one activation. begun: None without a first line.

    ended: the time of its last line
    switches_until: a switch up to this time may be the run's own: the next run first clears away what this run left
    returns_to: the release that was committed before this run, if the run before was cut or left a release on
        probation: an activation of that release may only move the traffic back, and start nothing. Else empty
    """

    lines: tuple[Action, ...]
    begun: float | None
    ended: float
    switches_until: float
    returns_to: str = ""

    @property
    def last(self) -> Action:
        return self.lines[-1]

    @property
    def claim(self) -> Action | None:
        """The first line that says that the traffic has moved."""
        return next((line for line in self.lines if line.state in {"done", "probation"}), None)

    @property
    def name(self) -> str:
        return _name(self.lines[0])

    def has(self, event: Event) -> bool:
        """Return whether an entry of the journal falls into this run."""
        return self.begun is not None and self.begun - _SLACK <= _at(event) <= self.switches_until + _SLACK


def verify(
    actions: Sequence[Action], size: int, logged: Logged, events: Sequence[Event], now: float
) -> tuple[Finding, ...]:
    """Return what does not fit. size: bytes of the history; now: the time of the host."""
    check = _Check(actions, size, logged, events, now)
    return (*check.horizon(), *_bounded(check.findings()))


def _bounded(findings: Iterable[Finding]) -> Iterator[Finding]:
    every = list(findings)
    yield from every[:_MOST]
    if len(every) > _MOST:
        yield Finding(any(one.wrong for one in every), f"{len(every) - _MOST} more lines do not fit the journal")


class _Check:
    """One comparison."""

    def __init__(
        self, actions: Sequence[Action], size: int, logged: Logged, events: Sequence[Event], now: float
    ) -> None:
        self._actions, self._size, self._now = actions[-_LINES:], size, now
        self._logged = logged._replace(boots=dict(islice(logged.boots.items(), _BOOTS)))
        self._newest = max((boot.last for boot in self._logged.boots.values()), default=0)
        # The host has read the history after `now`, and the journal after that.
        self._events = [event for event in events[-_EVENTS:] if logged.born - _SLACK <= _at(event) <= now]
        self._from = self._whole_since(events)
        self._moved = {*_boots_with_moved_clock(events), *_overlapping(self._logged.boots)}
        self._runs = list(_runs(self._actions, now))
        self._first = next((run for run in self._runs if run.begun is not None), None)
        self._complete = size < _NEVER_SHORTENED and logged.born > 0
        self._guards = list(_starts_of_guards(self._events))
        self._guard_times = [_at(guard) for guard in self._guards]
        self._started = _starts_of_slots(self._events, self._guards)

    def _whole_since(self, events: Sequence[Event]) -> float:
        """Return the time since which the journal is whole."""
        first = min((boot.first for boot in self._logged.boots.values() if boot.first), default=0) / 1e6
        if not first or (self._logged.cut and not events):
            return _FAR
        return max(_at(events[0]) if self._logged.cut else first, float(self._logged.born))

    def horizon(self) -> Iterator[Finding]:
        """Say how far back the journal goes, if that is less than the history."""
        times = [time for time in (_time(action) for action in self._actions) if time is not None]
        if self._from == _FAR:
            yield Finding(False, "systemd's journal cannot be read here, so the history is compared with the host only")
        elif times and min(times) < self._from - _SLACK:
            yield Finding(False, f"the journal goes back to {_text(self._from)} only: lines before that are not "
                          "compared with it")  # fmt: skip

    def findings(self) -> Iterator[Finding]:
        """Yield all that does not fit."""
        if self._from == _FAR:
            return
        yield from self._order()
        yield from self._beginnings()
        places = self._matched()
        for number, run in enumerate(self._runs):
            if run.begun is not None and run.begun >= self._from + _SLACK:
                yield from self._run(run, places.get(number))
        yield from self._stops()
        yield from self._unexplained({id(self._guards[place]) for place in places.values()})

    # Lines by themselves

    def _order(self) -> Iterator[Finding]:
        latest = 0.0
        for action in self._actions:
            time = _time(action)
            if time is None:
                yield Finding(True, f"the line {_name(action)} has no time: it was edited")
                continue
            if time > self._now + _ORDER:
                yield self._finding(time, f"the line {_name(action)} lies in the future: its time was changed")
            elif time < latest - _ORDER and latest > self._from:
                text = f"the line {_name(action)} stands below a later one ({_text(latest)})"
                yield self._finding(time, f"{text}: a time was changed, or the line was added or moved")
            latest = max(latest, min(time, self._now))

    def _beginnings(self) -> Iterator[Finding]:
        begun = False
        for run in self._runs:
            if run.begun is None and begun and self._covered(_time(run.last)):
                yield Finding(True, f"{run.name} has no first line: a line was removed, or this one was added")
            begun = begun or run.begun is not None

    # Lines and the journal

    def _matched(self) -> dict[int, int]:
        """Return the place of the guard of each run, by the number of the run.

        Lines have whole seconds, so the guard of one run may fall into the second of another. A run first takes a guard
        whose slot started its release. Runs that must have a guard choose before those that may have none.
        """
        need = {number: _need_of_guard(run) for number, run in enumerate(self._runs) if run.begun is not None}
        found: dict[int, int] = {}
        free = dict.fromkeys(range(len(self._guards)), True)
        releases = {place: event.release for place, event in self._started.items()}
        for same_release in (True, False):
            for number in sorted(need, key=lambda number: (need[number], number)):
                run = self._runs[number]
                places = self._may_be_of(run) if number not in found else range(0)
                fitting = (
                    place for place in places
                    if free[place] and not (same_release and releases.get(place) != run.last.release)
                )  # fmt: skip
                for place in islice(fitting, 1):
                    found[number], free[place] = place, False
        return found

    def _may_be_of(self, run: _Run) -> range:
        """Return the places of the guards that may be the run's, by their time."""
        # A run that was cut has ended before the line of the next one.
        until = run.ended if run.last.state == "started" else run.ended + 1 + _CLOSE
        begun = run.begun or 0.0
        return range(bisect_left(self._guard_times, begun - _CLOSE), bisect_right(self._guard_times, until))

    def _run(self, run: _Run, place: int | None) -> Iterator[Finding]:
        if place is None:
            yield from self._without_guard(run)
            return
        guard = self._guards[place]
        if run.begun is not None and _at(guard) > run.begun + _BEFORE_GUARD:
            text = f"{run.name} says that it began then, and systemd logged its start at {_text(_at(guard))}"
            yield self._finding(run.begun, f"{text}: its time was changed")
        moves = [event for event in self._events if (event.kind, event.slot) == ("live", guard.slot)]
        claim = run.claim
        moved = claim is None or any(_within(event, _at(guard), _time(claim)) for event in moves)
        if claim and not moved and self._covered(_time(claim)):
            text = f"{_name(claim)} says that the traffic has moved by then, and systemd logged no such switch"
            yield self._finding(_time(claim), f"{text}: the line was added or changed")
        yield from self._release(run, place)
        yield from self._late(run, guard)
        yield from self._without_outcome(run, guard)

    def _without_guard(self, run: _Run) -> Iterator[Finding]:
        """Yield what is wrong with a run of which PID 1 has started nothing."""
        claim = run.claim
        if claim is None:
            if run.last.state != "started" and self._covered(_time(run.last)):
                text = f"{run.name} failed before systemd started anything of it, or its lines were added"
                yield Finding(False, text)
            return
        # The run moved the traffic back to the committed release, which was up, so it started nothing.
        if run.returns_to and run.returns_to == claim.release:
            return
        # Shortening has removed the run before this one, so what this run had to start is not known.
        if not self._complete and run is self._first:
            return
        if not self._covered(_time(claim)):
            if run.ended < self._now - _SLACK:
                text = f"{_name(claim)} falls into a time of which the journal has nothing"
                yield Finding(False, f"{text}, as after a power cut")
        elif not self._of_older_layout(run):
            text = f"{_name(claim)} says that it is {claim.state}, and systemd logged no start of it"
            yield self._finding(_time(claim), f"{text}: the lines were added, or a time was changed")

    def _of_older_layout(self, run: _Run) -> bool:
        """Return whether a slot was started in this run before the first switch by root's unit."""
        first = next((event for event in self._events if event.kind == "live"), None)
        if first is not None and _at(first) <= run.ended + _SLACK:
            return False
        slots = (event for event in self._events if (event.kind, event.word) == ("slot", "started"))
        return any(_within(event, run.begun or 0.0, run.ended) for event in slots)

    def _release(self, run: _Run, place: int) -> Iterator[Finding]:
        slot = self._started.get(place)
        if slot and slot.release != run.last.release and _at(slot) <= run.ended + 1 + _CLOSE:
            text = f"{run.name} names another release than slot {slot.slot} has started at {_text(_at(slot))}"
            yield Finding(True, f"{text}, which was {slot.release}: the release was changed")

    def _late(self, run: _Run, guard: Event) -> Iterator[Finding]:
        """Yield a line that is later than the end of the guard: the guard ends last."""
        ended = _end_of_guard(self._events, guard)
        for line in run.lines:
            time = _time(line)
            if ended and time is not None and line.state in {"done", "returned", "ended"} and time > ended + _SLACK:
                text = f"{_name(line)}, {line.state}, is later than the end of its guard at {_text(ended)}"
                yield self._finding(time, f"{text}: its time was changed")

    def _without_outcome(self, run: _Run, guard: Event) -> Iterator[Finding]:
        """Yield a run without an outcome, though its guard has ended well: a guard ends only after that line."""
        ended = _end_of_guard(self._events, guard, well=True)
        if run.last.state in {"started", "probation"} and ended and self._covered(ended + _SHUTDOWN):
            text = f"{run.name} has no outcome, and systemd logged the end of its guard at {_text(ended)}"
            yield self._finding(ended, f"{text}: a line was removed, or the disk was full")

    def _stops(self) -> Iterator[Finding]:
        """Yield a stop in which no slot stopped, and a start in which none started."""
        for action in self._actions:
            time = _time(action)
            if action.action not in {"stop", "start"} or action.state != "done" or not self._covered(time):
                continue
            assert time is not None
            up, unclear = _slots_up(self._events, time)
            never_started = action.action == "start" and up and not unclear and not any(up.values())
            if never_started or (action.action == "stop" and any(up.values())):
                text = f"{_name(action)} is {action.state}, and systemd logged the service as"
                state = "running" if action.action == "stop" else "stopped"
                yield self._finding(time, f"{text} {state} then: the line was added or changed")

    # The journal without lines

    def _unexplained(self, explained: set[int]) -> Iterator[Finding]:
        since = self._history_begins()
        guards = {id(guard) for guard in self._guards} - explained
        for event in self._events:
            switch = (event.kind, event.word) == ("live", "started")
            if not (switch or id(event) in guards) or _at(event) < since:
                continue
            if switch and any(run.has(event) for run in self._runs):
                continue
            what = f"a switch to slot {event.slot}" if switch else f"a run that started slot {event.slot}"
            if event.slot == "none":
                what = "that the way in was closed"
            yield self._finding(_at(event), f"systemd logged {what} at {_text(_at(event))}, and no line tells of it: "
                                "lines were removed, a time was changed, or it was done by hand")  # fmt: skip

    def _history_begins(self) -> float:
        """Return the time since which each entry of the journal must have its lines."""
        if self._complete:
            return 0.0
        return self._first.begun - _CLOSE if self._first and self._first.begun is not None else _FAR

    # What can be said at all

    def _covered(self, time: float | None) -> bool:
        """Return whether the journal is whole at this time."""
        if time is None or time < self._from + _SLACK:
            return False
        return any(
            boot.first / 1e6 - _SLACK <= time
            and time <= (self._now if boot.last == self._newest else boot.last / 1e6) - _SLACK
            for boot in self._logged.boots.values() if boot.first
        )  # fmt: skip

    def _finding(self, time: float | None, text: str) -> Finding:
        """Return a finding; only a remark if the host's clock was moved in the boot of this time."""
        around = {
            name for name, boot in self._logged.boots.items()
            if time is not None and boot.first / 1e6 - _ORDER <= time <= boot.last / 1e6 + _ORDER
        }  # fmt: skip
        if self._moved & (around or self._moved):
            return Finding(False, f"{text}, or it is because the host's clock was moved in that boot")
        return Finding(True, text)


def _runs(actions: Sequence[Action], now: float) -> Iterator[_Run]:
    """Yield the activations, in the order of their first lines."""
    by_key: dict[tuple[str, str, str], list[Action]] = {}
    for action in actions:
        if action.action in _ACTIVATIONS:
            by_key.setdefault((action.run, action.action, action.release), []).append(action)
    groups = list(by_key.values())
    begins = [action for action in actions if action.state == "started" and action.action in _ACTIONS_ON_SLOTS]
    times = {id(action): _time(action) for action in begins}
    places = {id(action): place for place, action in enumerate(begins)}
    committed, returns = "", ""
    for lines in groups:
        first = lines[0] if lines[0].state == "started" else None
        ended = _time(lines[-1]) or 0.0
        # What is left of a run is cleared away before the next action on the slots begins.
        follower = begins[places[id(first)] + 1 :][:1] if first else []
        until = max(ended, (times[id(follower[0])] or now) if follower else now)
        state = lines[-1].state
        yield _Run(tuple(lines), _time(first) if first else None, until if state == "started" else ended,
                   ended if state in _CLOSED else until, returns)  # fmt: skip
        committed = lines[-1].release if state == "done" else committed
        returns = "" if state in {*_CLOSED, "failed"} else committed


def _need_of_guard(run: _Run) -> int:
    """Return 0 if PID 1 has started a guard for certain, 1 if perhaps, 2 if the run may have moved only the traffic."""
    if run.claim is None:
        return 1
    return 2 if run.returns_to and run.returns_to == run.claim.release else 0


def _starts_of_guards(events: Iterable[Event]) -> Iterator[Event]:
    """Yield the starts of guards by runs: without those by which systemd replaced a guard that was killed."""
    again: set[tuple[str, str]] = set()
    for event in events:
        if event.kind != "guard":
            continue
        key = event.boot, event.slot
        if event.word == "started":
            if key not in again:
                yield event
            again.discard(key)
        elif event.word == "again":
            again.add(key)


def _starts_of_slots(events: Sequence[Event], guards: Sequence[Event]) -> dict[int, Event]:
    """Return by the place of a guard the start of its slot, if it names the release.

    A run starts both at once, so systemd may log them in either order.
    """
    places = {id(guard): place for place, guard in enumerate(guards)}
    found: dict[int, Event] = {}
    at_work: dict[str, int] = {}
    up: dict[str, Event] = {}
    for event in events:
        place = places.get(id(event))
        if place is not None:
            start = up.pop(event.slot, None)
            found.update({place: start} if start and _at(event) - _at(start) <= _CLOSE else {})
            at_work[event.slot] = place
        elif event.kind == "guard" and event.word != "started":
            at_work.pop(event.slot, None)
        elif event.kind == "slot" and event.word == "started" and event.release:
            place = at_work.get(event.slot)
            if place is None or place in found:
                up[event.slot] = event
            else:
                found[place] = event
        elif event.kind == "slot":
            up.pop(event.slot, None)
    return found


def _end_of_guard(events: Sequence[Event], guard: Event, *, well: bool = False) -> float | None:
    """Return when a guard, and those that systemd started after it, have ended; None if that is not known.

    well: only if it did not fail
    """
    ended: float | None = None
    again = False
    for event in events:
        if (event.kind, event.slot) != ("guard", guard.slot) or _at(event) <= _at(guard):
            continue
        if event.boot != guard.boot or (event.word == "started" and not again):
            break
        if event.word in {"again", "started"}:
            again, ended = event.word == "again", None
        # Before systemd starts a guard again, it may log the stop of the killed one.
        elif not again:
            ended = _at(event) if event.word == "ended" or not well else None
    return ended


def _slots_up(events: Sequence[Event], time: float) -> tuple[dict[str, bool], set[str]]:
    """Return for each slot with a log whether it was up at a time, and the slots that changed around then."""
    up: dict[str, bool] = {}
    near: set[str] = set()
    for event in events:
        if event.kind != "slot" or event.word == "again":
            continue
        if abs(_at(event) - time) <= _SLACK:
            near.add(event.slot)
        elif _at(event) < time:
            up[event.slot] = event.word == "started"
    return {slot: state for slot, state in up.items() if slot not in near}, near


def _boots_with_moved_clock(events: Iterable[Event]) -> set[str]:
    """Return the boots in which the two clocks of the journal went apart."""
    offsets: dict[str, tuple[float, float]] = {}
    for event in events:
        offset = (event.time - event.clock) / 1e6
        least, most = offsets.get(event.boot, (offset, offset))
        offsets[event.boot] = min(least, offset), max(most, offset)
    return {boot for boot, (least, most) in offsets.items() if most - least > _SLACK / 2}


def _overlapping(boots: Mapping[str, Boot]) -> Iterator[str]:
    """Yield the boots that begin before another has ended: by a clock that was wrong."""
    latest = 0
    for name, boot in sorted(boots.items(), key=lambda item: item[1]):
        if 0 < boot.first < latest:
            yield name
        latest = max(latest, boot.last)


def _within(event: Event, since: float, until: float | None) -> bool:
    return until is not None and since - _SLACK <= _at(event) <= until + _SLACK


def _at(event: Event) -> float:
    return event.time / 1e6


def _time(action: Action) -> float | None:
    try:
        return datetime.strptime(action.time, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return None


def _text(time: float) -> str:
    return datetime.fromtimestamp(min(time, 253402300799), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _name(action: Action) -> str:
    return f"{action.action} of {action.release or 'nothing'} ({action.time}, run {action.run})"
