"""Merging by time, and cutting bytes into lines: properties that hold for any sequence of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.engine.logs.lines import cut
from tasks.engine.logs.merge import Merge


def test_lines_leave_by_time_after_they_were_held() -> None:
    merge: Merge[str] = Merge(hold=0.5, room=1000)
    merge.push("b", 10.2, "later", 1, now=0.0, wall=11)
    merge.push("a", 10.1, "earlier", 1, now=0.4, wall=11)
    assert list(merge.due(0.49)) == []
    assert list(merge.due(0.5)) == ["earlier", "later"]


def test_lines_of_one_host_keep_their_order_though_its_clock_went_back() -> None:
    merge: Merge[str] = Merge(hold=0.5, room=1000)
    merge.push("a", 10.0, "first", 1, now=0.0, wall=11)
    merge.push("a", 4.0, "second", 1, now=0.1, wall=11)
    assert list(merge.due(1.0)) == ["first", "second"]


def test_a_clock_that_is_fast_holds_up_nobody_else() -> None:
    merge: Merge[str] = Merge(hold=0.5, room=1000)
    merge.push("fast", 9000.0, "of the future", 1, now=0.0, wall=10.0)
    merge.push("a", 10.1, "next", 1, now=0.1, wall=10.1)
    merge.push("a", 10.2, "last", 1, now=0.2, wall=10.2)
    assert list(merge.due(0.5)) == ["of the future"]


def test_what_is_too_much_to_hold_leaves_early_the_earliest_first() -> None:
    merge: Merge[int] = Merge(hold=0.5, room=100)
    for number in range(30):
        merge.push("a", number, number, 10, now=0.0, wall=99)
    assert list(merge.due(0.0)) == list(range(20))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 9), st.floats(0, 0.3), st.booleans()), max_size=60))
def test_every_line_leaves_once_and_those_of_a_host_in_order(steps: list[tuple[str, float, float, bool]]) -> None:
    merge: Merge[tuple[str, int]] = Merge(hold=0.5, room=40)
    now, out = 0.0, []
    for number, (host, time, pause, look) in enumerate(steps):
        now += pause
        merge.push(host, time, (host, number), 1, now, now)
        out += list(merge.due(now)) if look else []
    out += list(merge.rest())
    assert sorted(number for _, number in out) == list(range(len(steps)))
    for host in "abc":
        numbers = [number for name, number in out if name == host]
        assert numbers == sorted(numbers)


@given(st.lists(st.sampled_from([b"", b"\n", b"a", b"bcd", b"ef\ngh\n", b"\n\n", b"ijklmnop"]), max_size=20))
def test_lines_are_the_same_in_whatever_pieces_they_come_but_for_those_too_long(pieces: list[bytes]) -> None:
    *whole, rest = b"".join(pieces).split(b"\n")
    expected = [line if len(line) <= 5 else None for line in [*whole, *([rest] if rest else [])]]
    assert list(cut(pieces, 5)) == expected
