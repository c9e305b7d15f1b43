"""The result of a run, counted from its events."""

from __future__ import annotations

import pytest

from tasks.engine.errors import LoopError, Unreachable
from tasks.engine.events import Event, Failed, Finished, Notice, Step
from tasks.engine.report.summary import Tally

HOSTS = ("a", "b", "c")


def done(host: str, outcome: str = "deployed") -> Finished:
    return Finished(host, outcome, "x -> y", 1.25, {"before": "x", "release": "y"})


def failed(host: str, error: LoopError | None = None) -> Failed:
    return Failed(host, error or LoopError("no"), "x", 2.0)


UNREACHED = Unreachable("gone")


@pytest.mark.parametrize(
    ("events", "status", "behind", "sentence"),
    [
        ([done("a"), done("b"), done("c", "unchanged")], 0, (), "3 hosts: 2 deployed, 1 unchanged"),
        ([done("a"), failed("b")], 1, ("b", "c"), "3 hosts: 1 deployed, 1 failed, 1 not begun (c)"),
        ([done("a"), failed("b", UNREACHED), done("c")], 3, ("b",), "3 hosts: 2 deployed, 1 unreachable"),
        ([failed("a", UNREACHED), failed("b")], 1, HOSTS, "3 hosts: 1 unreachable, 1 failed, 1 not begun (c)"),
        ([done("a"), failed("b"), done("a", "undone")], 1, HOSTS, "3 hosts: 1 undone, 1 failed, 1 not begun (c)"),
        ([done("a"), failed("a"), done("b"), done("c")], 1, ("a",), "3 hosts: 2 deployed, 1 failed"),
        ([Step("a", "plan", "connect")], 0, HOSTS, "3 hosts: 3 not begun (a, b, c)"),
    ],
)
def test_events_add_up(events: list[Event], status: int, behind: tuple[str, ...], sentence: str) -> None:
    tally = Tally(HOSTS)
    for event in events:
        tally.add(event)
    assert (tally.status, tally.left_behind) == (status, behind)
    assert tally.sentence().removesuffix(", ") == sentence


def test_rows_say_from_and_to_in_the_order_of_the_run() -> None:
    tally = Tally(HOSTS)
    tally.add(failed("b"))
    tally.add(done("a"))
    assert list(tally.rows()) == [
        ("a", "x", "y", "deployed", "1.2"),
        ("b", "-", "-", "FAILED", "2.0"),
        ("c", "-", "-", "not begun", "-"),
    ]


def test_only_a_notice_with_a_command_closes_a_run() -> None:
    tally = Tally(HOSTS)
    tally.add(Notice("wave 1"))
    tally.add(Notice("go on:", "fab deploy"))
    assert [notice.next for notice in tally.closing] == ["fab deploy"]
