"""A history against what PID 1 logged: recorded on real hosts, as it was and forged in every way."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tasks.engine.host import history, journal_check
from tasks.engine.host.history import Action, Finding
from templates.host import rollback_stack
from templates.host.fact_schema import Boot, Event, Logged

SWITCHES = {*rollback_stack.ACTIONS, "restart"}
FORGED = "feedfacecafe"


class Recording(NamedTuple):
    """What a host reported of itself. verbs: each verb, and runs that were killed or broken; reboot: of two boots."""

    actions: tuple[Action, ...]
    size: int
    logged: Logged
    events: tuple[Event, ...]
    now: float

    def told(self) -> tuple[Finding, ...]:
        return journal_check.verify(self.actions, self.size, self.logged, self.events, self.now)

    def wrong(self) -> list[str]:
        """Return what `fab history --verify` calls wrong, by the journal or by the history itself."""
        done = [one.release for one in self.actions if one.state == "done" and one.action in rollback_stack.ACTIONS]
        itself = history.verify(self.actions, current=done[-1] if done else None, settled=True, busy=False)
        return [one.text for one in (*self.told(), *itself) if one.wrong]

    def having(self, **values: Any) -> Recording:
        return self._replace(**values)

    def but(self, place: int, *instead: Action) -> Recording:
        """Return a recording with other lines in place of one."""
        return self._replace(actions=(*self.actions[:place], *instead, *self.actions[place + 1 :]))


def load(name: str) -> Recording:
    found = json.loads((Path(__file__).parent / f"recorded/{name}.json").read_text())
    boots = {boot: Boot(**span) for boot, span in found["logged"]["boots"].items()}
    logged = Logged(found["logged"]["born"], boots, found["logged"]["cut"])
    actions = tuple(Action(line[0], line[1], line[2], line[3], line[4], {}) for line in found["actions"])
    return Recording(actions, found["size"], logged, tuple(Event(*one) for one in found["events"]), found["now"])


VERBS, REBOOT = load("verbs"), load("reboot")
BOTH = [pytest.param(VERBS, id="verbs"), pytest.param(REBOOT, id="reboot")]


def later(action: Action, seconds: int) -> Action:
    moment = datetime.strptime(action.time, "%Y-%m-%dT%H:%M:%SZ") + timedelta(seconds=seconds)
    return action._replace(time=moment.strftime("%Y-%m-%dT%H:%M:%SZ"))


def runs(recording: Recording) -> Iterator[tuple[Action, ...]]:
    """Yield the lines of each run that switched the traffic and said so."""
    for key in dict.fromkeys(one[1:4] for one in recording.actions):
        lines = tuple(one for one in recording.actions if one[1:4] == key)
        if lines[0].action in SWITCHES and any(line.state in {"done", "probation"} for line in lines):
            yield lines


@pytest.mark.parametrize("recording", BOTH)
def test_what_really_happened_fits(recording: Recording) -> None:
    """It has deploys, a rollback in and after a probation, one that returned, stops, starts, kills and a reboot."""
    assert recording.told() == ()
    assert recording.wrong() == []
    states = {line.state for line in (*VERBS.actions, *REBOOT.actions)}
    assert states == {"started", "probation", "done", "failed", "returned", "ended"}


@pytest.mark.parametrize("recording", BOTH)
def test_it_fits_at_every_moment(recording: Recording) -> None:
    """A host may be asked while a run is at work: the journal then has more than the history that was read before."""
    for place, action in enumerate(recording.actions):
        now = datetime.strptime(f"{action.time}+0000", "%Y-%m-%dT%H:%M:%SZ%z").timestamp()
        boots = {name: span for name, span in recording.logged.boots.items() if span.first / 1e6 < now}
        logged = recording.logged._replace(boots=boots)
        at_work = recording.having(actions=recording.actions[: place + 1], now=now, logged=logged)
        assert [one.text for one in at_work.told() if one.wrong] == []


@pytest.mark.parametrize("recording", BOTH)
def test_a_run_that_is_removed_is_named(recording: Recording) -> None:
    for lines in runs(recording):
        told = recording.having(actions=tuple(one for one in recording.actions if one not in lines)).wrong()
        # A rollback that ends a probation starts nothing: its guard has brought the traffic back.
        if (lines[0].action, len(lines)) != ("rollback", 2) or recording is REBOOT:
            assert any("no line tells of it" in one for one in told), lines


@pytest.mark.parametrize("recording", BOTH)
@pytest.mark.parametrize("state", ["started", "done", "ended"])
def test_a_line_that_is_removed_is_named(recording: Recording, state: str) -> None:
    for place, action in enumerate(recording.actions):
        if action.state == state and action.action in SWITCHES and (state != "ended" or recording is VERBS):
            # systemd has started nothing for the run that was killed at once, and for the rollback in a probation.
            alone = [one for one in recording.actions if one[1:4] == action[1:4]] == [action]
            unseen = alone or (recording is VERBS and action.action == "rollback")
            assert unseen or recording.but(place).wrong(), action


@pytest.mark.parametrize("recording", BOTH)
@pytest.mark.parametrize("state", ["done", "probation"])
def test_a_run_that_is_added_is_named(recording: Recording, state: str) -> None:
    for place, action in enumerate(recording.actions):
        added = (action._replace(run="x", action="deploy", release=FORGED, state=word) for word in ("started", state))
        forged = recording.but(place, action, *added)
        named = any("added" in one or "changed" in one for one in forged.wrong())
        # The reboot came at once after the line `ended`: of that second the journal may have lost lines.
        assert named or (action.state == "ended" and "the journal has nothing" in forged.told()[0].text), action


def test_a_failure_that_is_added_is_a_remark_since_a_run_may_fail_before_anything_starts() -> None:
    added = (VERBS.actions[3]._replace(run="x", release=FORGED, state=word) for word in ("started", "failed"))
    (told,) = VERBS.but(3, VERBS.actions[3], *added).told()
    assert (told.wrong, "failed before systemd started anything" in told.text) == (False, True)


@pytest.mark.parametrize("recording", BOTH)
@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_a_time_that_is_changed_is_named(recording: Recording, seconds: int) -> None:
    for place, action in enumerate(recording.actions):
        told = recording.but(place, later(action, seconds)).told()
        # The journal has nothing of the time before the service, so that is told.
        assert any(one.wrong for one in told) or (not place and "goes back" in told[0].text), action


@pytest.mark.parametrize("recording", BOTH)
def test_a_release_that_is_changed_is_named(recording: Recording) -> None:
    for lines in runs(recording):
        changed = (one._replace(release=FORGED) if one in lines else one for one in recording.actions)
        told = recording.having(actions=tuple(changed)).wrong()
        assert any(FORGED in one for one in told), lines


@pytest.mark.parametrize(("verb", "word"), [("stop", "running"), ("start", "stopped")])
def test_a_stop_or_a_start_that_never_was_is_named(verb: str, word: str) -> None:
    last = REBOOT.actions[-1]
    added = [later(last, 60)._replace(run="x", action=verb, state=state) for state in ("started", "done")]
    ends = [REBOOT.events[-1]._replace(kind="slot", slot=slot, word="ended") for slot in ("blue", "green")]
    events = (*REBOOT.events, *(ends if verb == "start" else ()))
    (told,) = REBOOT.having(actions=(*REBOOT.actions, *added), events=events, now=REBOOT.now + 600).wrong()
    assert f"logged the service as {word} then" in told


# ---- where the journal has nothing, nothing is said against the history


@pytest.mark.parametrize("recording", BOTH)
def test_a_journal_that_is_rotated_accuses_nothing(recording: Recording) -> None:
    for place in range(1, len(recording.events)):
        left = recording.events[place:]
        boots = {name: span for name, span in recording.logged.boots.items() if any(name == one.boot for one in left)}
        boots[left[0].boot] = boots[left[0].boot]._replace(first=left[0].time - 1)
        told = recording.having(events=left, logged=recording.logged._replace(boots=boots)).told()
        assert [one.text for one in told if one.wrong] == []
        cut = recording.having(events=left, logged=recording.logged._replace(cut=True)).told()
        assert [one.text for one in cut if one.wrong] == []
    assert "the journal goes back to" in told[0].text


def test_a_journal_that_cannot_be_read_is_told() -> None:
    (told,) = VERBS.having(events=(), logged=Logged()).told()
    assert (told.wrong, "cannot be read here" in told.text) == (False, True)


def test_a_power_cut_that_took_the_end_of_a_journal_accuses_nothing() -> None:
    """The history is flushed to the disk line by line, and journald writes the journal minutes later."""
    (first, span), _ = sorted(REBOOT.logged.boots.items(), key=lambda item: item[1].first)
    for lost in (one.time for one in REBOOT.events if one.boot == first):
        boots = {**REBOOT.logged.boots, first: span._replace(last=lost - 1)}
        left = tuple(one for one in REBOOT.events if one.boot != first or one.time < lost)
        told = REBOOT.having(events=left, logged=REBOOT.logged._replace(boots=boots)).told()
        assert [one.text for one in told if one.wrong] == []


def test_a_history_that_was_shortened_accuses_nothing() -> None:
    for place in range(len(VERBS.actions)):
        switches = [
            one for one in VERBS.actions[:place] if one.state == "done" and one.action in rollback_stack.ACTIONS
        ]
        short = VERBS.having(actions=(*switches, *VERBS.actions[place:]), size=400_000)
        assert [one.text for one in short.told() if one.wrong] == []


def test_a_clock_that_was_moved_accuses_nothing() -> None:
    told = VERBS.but(3, later(VERBS.actions[3], 3600)).having(
        events=tuple(one._replace(clock=one.clock - 5_000_000 * (place > 9)) for place, one in enumerate(VERBS.events))
    )
    assert {one.wrong for one in told.told()} == {False}
    assert "the host's clock was moved in that boot" in told.told()[-1].text


def test_an_older_layout_moved_the_traffic_without_systemd() -> None:
    """Its slots were started by systemd, and its link was moved by the deploy account."""
    slot = next(one for one in VERBS.events if (one.kind, one.word) == ("slot", "started"))
    older = VERBS.having(actions=VERBS.actions[:2], events=(slot,))
    assert older.told() == ()
    assert older.having(events=(slot._replace(word="ended"),)).wrong()


def test_many_lines_that_do_not_fit_are_told_in_few() -> None:
    added = tuple(
        VERBS.actions[4]._replace(run=f"x{number}", release=FORGED, state=word)
        for number in range(500) for word in ("started", "done")
    )  # fmt: skip
    told = VERBS.having(actions=(*VERBS.actions[:5], *added, *VERBS.actions[5:])).told()
    assert len(told) == 51
    assert "more lines do not fit the journal" in told[-1].text


@pytest.mark.parametrize(
    ("words", "end"),
    [
        (("started", "ended"), 2),
        (("started", "failed", "again", "started", "ended"), 5),
        # Once: the stop of a guard that was killed counted as its end, and what the next one wrote as too late.
        (("started", "failed", "again", "ended", "started", "ended"), 6),
        (("started", "failed", "again", "ended", "started"), None),
        (("started", "ended", "started", "ended"), 2),
    ],
)
def test_a_guard_that_is_killed_ends_with_the_one_after_it(words: tuple[str, ...], end: int | None) -> None:
    events = [Event(time * 10**6, time * 10**6, "b" * 32, "guard", "green", word) for time, word in enumerate(words, 1)]
    assert journal_check._end_of_guard(events, events[0]) == end


class Host:
    """A host that makes runs quickly one after the other, and reports what it did. now: seconds since 1970."""

    def __init__(self, dice: random.Random) -> None:
        self._dice, self.now = dice, 1_800_000_000 + dice.random()
        self._lines: list[Action] = []
        self._events: list[Event] = []
        self._releases = {"blue": "", "green": ""}
        self._live = self._committed = "green"
        self._on_probation: tuple[str, str] | None = None
        self._runs = 0

    def recording(self) -> Recording:
        boots = {"b" * 32: Boot(1_799_999_000_000_000, int(self.now * 1e6))}
        logged = Logged(1_799_999_000, boots, False)
        return Recording(tuple(self._lines), 1000, logged, tuple(self._events), self.now + 60)

    def perform(self) -> None:
        """Make one run of any kind and end."""
        self._runs += 1
        kinds = ["commit", "refuse", "fail", "watch", "restart"]
        if self._on_probation:
            kinds = ["commit", "watch", "return"]
        elif not self._committed_release:
            kinds = ["commit", "refuse", "fail"]
        kind = self._dice.choice(kinds)
        if kind == "return":
            self._end_probation("started", "rollback")
        else:
            self._switch(kind)

    def _switch(self, kind: str) -> None:
        action, release = "deploy", f"{self._runs:012x}"
        if kind == "restart":
            action, release = kind, self._committed_release
        self._line(action, release, "started")
        run = self._lines[-1].run
        if kind == "refuse":
            self._line(action, release, "failed")
            return
        if self._on_probation:
            self._end_probation()
        idle = "blue" if self._live == "green" else "green"
        starts, first = kind != "fail" or self._dice.random() < 0.5, self._dice.random() < 0.5
        if starts and first:
            self._event("slot", idle, "started", release)
        self._event("guard", idle, "started", seconds=0.03)
        if starts and not first:
            self._event("slot", idle, "started", release)
        self._releases[idle] = release
        if kind == "fail":
            self._line(action, release, "failed", run)
            if starts:
                self._event("slot", idle, "ended")
            self._event("guard", idle, "ended")
            return
        self._event("live", idle, "started")
        former, self._live = self._live, idle
        if kind == "watch":
            self._line(action, release, "probation", run)
            self._on_probation = run, action
            return
        self._committed = idle
        self._line(action, release, "done", run)
        self._event("slot", former, "ended")
        self._event("guard", idle, "ended")

    def _end_probation(self, *rollback: str) -> None:
        """Move the traffic back, as the next run or a rollback does, which starts nothing of its own."""
        assert self._on_probation
        run, action = self._on_probation
        left, self._live, self._on_probation = self._live, self._committed, None
        for state in rollback[:1]:
            self._line("rollback", self._committed_release, state)
        back = self._lines[-1].run
        self._event("live", self._committed, "started")
        self._line(action, self._releases[left], "ended", run)
        self._event("slot", left, "ended")
        self._event("guard", left, "ended")
        if rollback:
            self._line("rollback", self._committed_release, "done", back)

    @property
    def _committed_release(self) -> str:
        return self._releases[self._committed]

    def _line(self, action: str, release: str, state: str, run: str = "") -> None:
        self._wait()
        moment = datetime.fromtimestamp(int(self.now), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._lines.append(Action(moment, run or f"run{self._runs}", action, release, state, {}))

    def _event(self, kind: str, slot: str, word: str, release: str = "", seconds: float = 0) -> None:
        self._wait(seconds)
        self._events.append(Event(int(self.now * 1e6), int(self.now * 1e6), "b" * 32, kind, slot, word, release))

    def _wait(self, seconds: float = 0) -> None:
        self.now += seconds or self._dice.choice([0.001, 0.02, 0.2, 0.5])


@pytest.mark.parametrize("seed", range(40))
def test_runs_that_come_quickly_one_after_the_other_accuse_no_host(seed: int) -> None:
    """Once: a run was given the guard of the run before, which had begun in the last tenths of a second."""
    dice = random.Random(seed)
    for _ in range(25):
        host = Host(dice)
        for _ in range(dice.randint(1, 8)):
            host.perform()
        recording = host.recording()
        assert [one.text for one in recording.told() if one.wrong] == [], recording.actions
