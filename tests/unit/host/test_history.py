"""The content of a history, its agreement with the host, and the functions that write it."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.engine.host import history
from tasks.engine.host.history import Action
from templates.host import history as host_history
from templates.host import locks
from templates.host.folders import Folder
from templates.host.run import Run as HostRun


def act(run: int, action: str, release: str, state: str) -> Action:
    return Action(f"2026-01-01T00:00:{run:02}Z", str(run), action, release, state, {"user": "ann"})


def lived(*runs: tuple[str, str, str]) -> tuple[Action, ...]:
    """Build actions from action, release and outcome of each run, with its beginning; no outcome: it was cut off."""
    lines = []
    for number, (action, release, state) in enumerate(runs):
        lines.append(act(number, action, release, "started"))
        if state:
            lines.append(act(number, action, release, state))
    return tuple(lines)


GOOD = (("deploy", "a", "done"), ("deploy", "b", "done"))


@pytest.mark.parametrize(
    ("runs", "current", "settled", "busy", "wrong", "told"),
    [
        ((), None, True, False, False, ""),
        (GOOD, "b", True, False, False, ""),
        ((*GOOD, ("deploy", "c", "failed")), "b", True, False, False, ""),
        ((*GOOD, ("rollback", "a", "done"), ("restart", "a", "done")), "a", True, False, False, ""),
        ((*GOOD, ("deploy", "c", "")), "b", False, False, True, "before the commit: b is committed, as before; the"),
        ((*GOOD, ("deploy", "c", "")), "b", True, False, True, "before the commit: b is committed, as before; no"),
        ((*GOOD, ("deploy", "c", "")), "c", False, False, True, "after the commit: c serves"),
        ((*GOOD, ("deploy", "c", "")), "b", False, True, False, "is under way"),
        ((("deploy", "c", ""), *GOOD), "b", True, False, False, "a later run has put that right"),
        ((*GOOD, ("stop", "b", "")), "b", False, False, True, "was cut off: run it again"),
        ((("deploy", "a", ""),), None, False, False, True, "before the commit: nothing is committed"),
        (GOOD, "a", True, False, True, "the last release that was activated is b, and a is committed"),
        (GOOD, None, True, False, True, "and none is committed"),
        ((), "a", True, False, True, "the last release that was activated is none"),
        ((*GOOD, ("maintenance-on", "b", "done")), "b", True, False, False, ""),
    ],
)  # fmt: skip
def test_a_history_is_held_against_its_host(
    runs: tuple[tuple[str, str, str], ...], current: str | None, settled: bool, busy: bool, wrong: bool, told: str
) -> None:
    found = history.verify(lived(*runs), current=current, settled=settled, busy=busy)
    assert any(one.wrong for one in found) is wrong
    assert told in " | ".join(one.text for one in found)
    assert bool(found) is bool(told)


def test_a_line_that_is_not_whole_is_told_and_is_not_wrong_by_itself() -> None:
    (found,) = history.verify(lived(*GOOD), current="b", settled=True, busy=False, torn=2)
    assert (found.wrong, found.text) == (False, "2 lines are not whole: the host lost power as it wrote")


class Counted(Action):
    """An action that counts its comparisons."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return super().__eq__(other)

    __hash__ = Action.__hash__


def test_a_long_history_is_gone_through_once() -> None:
    """Once: history --verify compared every line with every other."""
    runs = (*(("deploy", "a", "") for _ in range(300)), *GOOD)
    long = tuple(Counted(**one._asdict()) for one in lived(*runs))
    assert len(history.verify(long, current="b", settled=True, busy=False)) == 51
    assert Counted.compared <= len(long)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a service, with its locks."""
    monkeypatch.setattr(locks, "RUN", str(tmp_path))
    (tmp_path / "myapp/lock").mkdir(parents=True)
    (tmp_path / "myapp/lock/history").touch()
    return tmp_path


def record(root: Path, *entries: tuple[str, str, str]) -> list[str]:
    """Write these as one run of the host's program does; return the lines of the file."""
    run = HostRun(("n", "run-1", '{"user":"ann"}', ""), {"name": "myapp"}, io.BytesIO())
    with Folder.open(str(root)) as folder:
        for entry in entries:
            host_history.record(run, folder, *entry)
    return (root / "history.jsonl").read_text().splitlines()


def line(action: str, release: str, state: str, pad: int = 0) -> str:
    found = {"time": "2026-01-01T00:00:00Z", "run": "r", "action": action, "release": release, "state": state,
             "who": {"user": "u" * pad}}  # fmt: skip
    return json.dumps(found, separators=(",", ":")) + "\n"


def test_a_torn_line_does_not_swallow_the_next(root: Path) -> None:
    """Once: a torn last line of the history swallowed the next one."""
    (root / "history.jsonl").write_text(line("deploy", "a", "started") + line("deploy", "a", "done")[:40])
    lines = record(root, ("deploy", "b", "started"), ("deploy", "b", "done"))
    assert [(one.release, one.state) for one in history.parse(lines)] == [
        ("a", "started"),
        ("b", "started"),
        ("b", "done"),
    ]
    assert len(lines) == 4


def test_many_writers_at_once_lose_no_line_also_while_the_file_is_shortened(root: Path) -> None:
    (root / "history.jsonl").write_text(line("restart", "a", "done", pad=200) * 3500)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: record(root, ("deploy", f"r{n}", "done")), range(1, 9)))
    lines = (root / "history.jsonl").read_text().splitlines()
    assert {f"r{n}" for n in range(1, 9)} <= {one.release for one in history.parse(lines)}
    assert all(json.loads(one) for one in lines)


def test_a_history_never_grows_without_bound_and_a_rollback_still_knows_where_to_go(root: Path) -> None:
    old = [line("deploy", name, state) for name in ("a", "b") for state in ("started", "done")]
    restarts = line("restart", "b", "done", pad=100)
    (root / "history.jsonl").write_text("".join(old) + restarts * (1_000_100 // len(restarts)))
    lines = record(root, ("restart", "b", "started"), ("restart", "b", "done"))
    assert sum(map(len, lines)) < 400_000
    actions = history.parse(lines)
    assert len(actions) == len(lines)
    assert history.previous(actions, "b", ["a", "b"]) == "a"
    assert [(one.run, one.state) for one in actions[-2:]] == [("run-1", "started"), ("run-1", "done")]
    assert [path.name for path in root.iterdir() if "new" in path.name] == []


def test_what_is_kept_of_the_switches_is_bounded_too(root: Path) -> None:
    (root / "history.jsonl").write_text(line("deploy", "a", "done", pad=100) * 8000)
    lines = record(root, ("deploy", "b", "done"))
    assert sum(map(len, lines)) < 620_000
    assert all(json.loads(one) for one in lines)
