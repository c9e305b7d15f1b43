"""Many hosts at once: the events of each arrive in order, and a run does not wait for a reader that has gone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.engine.parallel import LIMIT, Stop, gather, pool

Emit = Callable[[int], None]


def test_what_one_work_says_keeps_its_order_and_all_of_it_arrives() -> None:
    def work(start: int) -> Callable[[Emit], None]:
        def say(emit: Emit) -> None:
            for number in range(500):
                emit(start + number)

        return say

    with pool(8) as executor:
        found = list(gather([work(1000 * one) for one in range(8)], executor))
    assert len(found) == 4000
    for one in range(8):
        mine = [number for number in found if number // 1000 == one]
        assert mine == sorted(mine)


def test_works_run_at_the_same_time() -> None:
    together = threading.Barrier(5, timeout=30)

    def work(emit: Emit) -> None:
        together.wait()
        emit(1)

    with pool(5) as executor:
        assert sum(gather([work] * 5, executor)) == 5


def test_a_fault_is_raised_after_the_others_have_ended() -> None:
    failed = threading.Event()

    def bad(_: Emit) -> None:
        failed.set()
        raise ZeroDivisionError("ours")

    def good(emit: Emit) -> None:
        assert failed.wait(30)
        emit(1)
        emit(2)

    found: list[int] = []
    with pool(2) as executor:
        items = gather([bad, good], executor)
        found += [next(items), next(items)]
        with pytest.raises(ZeroDivisionError, match="ours"):
            next(items)
    assert found == [1, 2]


def test_a_reader_that_goes_away_lets_the_works_end() -> None:
    ended = threading.Event()

    def work(emit: Emit) -> None:
        # Far more than the queue holds.
        for number in range(50_000):
            emit(number)
        ended.set()

    with pool(1) as executor:
        items = gather([work], executor)
        assert next(items) == 0
        items.close()  # type: ignore[attr-defined]
    assert ended.is_set()


def test_a_slow_reader_slows_the_works_down_and_memory_stays_bounded() -> None:
    said = 0

    def work(emit: Emit) -> None:
        nonlocal said
        for number in range(5000):
            emit(number)
            said += 1

    with pool(1) as executor:
        items = gather([work], executor)
        next(items)
        items_read = [next(items) for _ in range(10)]
        assert said <= 1000 + len(items_read) + 2
        assert len(list(items)) == 5000 - 11


def test_no_work_is_no_work() -> None:
    with pool(0) as executor:
        assert list(gather([], executor)) == []


@pytest.mark.parametrize(("hosts", "threads"), [(0, 1), (1, 1), (5, 5), (LIMIT, LIMIT), (500, LIMIT)])
def test_threads_are_bounded(hosts: int, threads: int) -> None:
    with pool(hosts) as executor:
        assert isinstance(executor, ThreadPoolExecutor)
        assert executor._max_workers == threads


def test_the_first_signal_is_the_one_that_counts() -> None:
    stop = Stop()
    assert not stop
    stop.set(2)
    stop.set(15)
    assert stop
    assert stop.signal == 2
