"""The checker of histories, tried on made-up ones: it finds each fault."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.traffic.load_history import History, Request, Window, percentile, read

OLD, NEW, OTHER = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"
HOST = "192.0.2.1"
DEPLOY = Window("deploy", 10.0, 20.0, {HOST: (OLD, NEW)})
UNDONE = Window("undo", 10.0, 20.0, {HOST: (OLD, NEW, OLD)})


def request(start: float, release: str, took: float = 0.1, **more: object) -> Request:
    one = Request(start, start, start + took, "quick", "kept", HOST, 200, release, number=1, opened=0.0)
    return replace(one, **more)  # type: ignore[arg-type]


def history(*requests: Request, window: Window = DEPLOY, pinned: bool = False) -> History:
    return History(requests, [window], {HOST: OLD}, pinned)


def test_a_switch_in_good_order_has_no_fault() -> None:
    # The slow one began before the switch, and the same release answers it after the switch.
    slow = request(14.8, OLD, 1.0, number=2)
    made = history(request(1.0, OLD), request(14.9, OLD), slow, request(15.0, NEW), request(25.0, NEW))
    assert made.faults() == []
    assert made.tally() == {"quick": (0, 5)}


@pytest.mark.parametrize(
    "bad",
    [
        request(12.0, "", status=502, error="Bad Gateway"),
        request(12.0, "", status=0, error="Closed: without an answer"),
        request(12.0, OLD, error="4096 bytes were sent, and 100 were answered"),
        request(12.0, "", kind="stream", status=502),
    ],
)
def test_what_is_lost_is_found_and_counted_by_kind(bad: Request) -> None:
    (fault,) = history(request(1.0, OLD), bad).faults()
    assert fault.startswith(f"1 of {2 if bad.kind == 'quick' else 1} {bad.kind} lost: Request(due=12.0")


def test_a_stream_that_ended_is_not_lost() -> None:
    assert history(request(1.0, OLD, 14.0, kind="stream", error="Closed", answered=1.1, events=60)).faults() == []


def test_an_idle_connection_that_was_closed_is_counted_apart() -> None:
    made = history(request(12.0, OLD, retried="without an answer"))
    assert made.lost == []
    assert made.faults(retries=1) == []
    (fault,) = made.faults()
    assert "1 of 1 had to be sent again" in fault


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (request(9.0, NEW), f"answered by {NEW}, not by {OLD}"),
        (request(20.1, OLD, number=2), f"answered by {OLD}, not by {NEW}"),
        (request(15.0, OTHER), f"answered by {OTHER}, not by {OLD} or {NEW}"),
        (request(25.0, OLD, 5.0, number=2, kind="stream", answered=25.1), f"answered by {OLD}, not by {NEW}"),
    ],
)
def test_who_must_not_answer_at_that_time_is_found(one: Request, told: str) -> None:
    assert history(one).faults()[0].startswith(told)


def test_a_stale_answer_within_the_window_is_found() -> None:
    (fault,) = history(request(12.0, NEW), request(12.2, OLD, number=2)).faults()
    assert fault.startswith(f"answered by {OLD} after {NEW} had taken over")


def test_a_mixture_of_two_releases_is_found_by_order_and_by_connection() -> None:
    order, connection = history(request(12.0, NEW), request(12.2, OLD), request(12.4, NEW)).faults()
    assert order.startswith(f"answered by {OLD} after {NEW} had taken over")
    assert connection.startswith(f"answered by {OLD} on a connection where {NEW} had answered")


def test_an_undo_goes_there_and_back_once() -> None:
    there_and_back = [request(11.0, OLD), request(12.0, NEW), request(13.0, NEW), request(14.0, OLD)]
    assert history(*there_and_back, request(30.0, OLD), window=UNDONE).faults() == []
    (fault,) = history(*there_and_back, request(12.5, OLD, number=2), window=UNDONE).faults()
    assert fault.startswith(f"answered by {OLD} after {NEW} had taken over")
    (fault,) = history(*there_and_back, request(21.0, NEW, number=2), window=UNDONE).faults()
    assert fault.startswith(f"answered by {NEW}, not by {OLD}")


def test_a_pinned_connection_stays_with_whom_it_was_opened_to_until_that_one_has_gone() -> None:
    late = request(15.0, OLD)
    fresh = request(14.0, NEW, number=2, opened=14.0)
    assert history(fresh, late, pinned=True).faults() == []
    assert history(fresh, late).faults() != []
    (fault,) = history(fresh, request(15.0, OLD, number=3, opened=14.5), pinned=True).faults()
    assert fault.startswith(f"answered by {OLD} after {NEW} had taken over")
    (fault,) = history(request(21.0, OLD), pinned=True).faults()
    assert fault.startswith(f"answered by {OLD}, not by {NEW}")
    (fault,) = history(request(14.0, OLD), request(14.5, NEW), pinned=True).faults()
    assert fault.startswith(f"answered by {NEW} on a connection where {OLD} had answered")


def test_times_count_from_when_a_request_was_due_and_by_window() -> None:
    quiet = Window("quiet", 0.0, 10.0, {})
    waited = replace(request(12.0, OLD), due=11.0)
    made = History([request(1.0, OLD), request(2.0, OLD, 0.3), waited], [quiet, DEPLOY], {HOST: OLD})
    assert made.seconds(["quiet"]) == pytest.approx([0.1, 0.3])
    assert made.seconds(["deploy"]) == pytest.approx([1.1])
    assert made.seconds(["quiet", "deploy"], ["slow"]) == []
    assert percentile([0.1, 0.2, 0.3, 0.4], 0.5) == 0.3
    assert made.offered() == pytest.approx(2 / 11)


def test_a_log_is_read_in_the_order_that_was_due(tmp_path: Path) -> None:
    told = {"start": 3.5, "end": 4, "kind": "post", "connection": "fresh", "host": "h", "status": 0, "release": ""}
    log = tmp_path / "log"
    log.write_text("".join(json.dumps({"due": due, **told}) + "\n" for due in (3, 2)))
    assert [one.due for one in read(log)] == [2, 3]
