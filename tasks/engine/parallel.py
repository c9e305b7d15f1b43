"""Many hosts at once: every piece of work emits events from its thread, and one generator yields them in order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tasks.engine.events import Event

Emit = Callable[[Event], None]
_Item = TypeVar("_Item")

LIMIT = 16
"""Threads at most: each waits for a host, so more of them would only cost memory."""


class Stop:
    """Set by a signal, or by a hook that failed: what is under way ends, nothing else is begun.

    signal: its number, 0 without one.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._event = threading.Event()

    def set(self, signal: int) -> None:
        """Ask for the end."""
        self.signal = self.signal or signal
        self._event.set()

    def refuse(self) -> None:
        """End the run without a signal."""
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until it is set; whether it is."""
        return self._event.wait(seconds)

    def __bool__(self) -> bool:
        return self._event.is_set()


def pool(size: int) -> Executor:
    """The executor for so many hosts; anything with the interface of concurrent.futures can take its place."""
    return ThreadPoolExecutor(max_workers=max(1, min(size, LIMIT)), thread_name_prefix="host")


def apart(work: Callable[[], _Item]) -> Future[_Item]:
    """Run `work` in a daemon thread; return its Future."""
    made: Future[_Item] = Future()

    def run() -> None:
        try:
            made.set_result(work())
        except BaseException as error:  # for who asks for the result
            made.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return made


@dataclass(frozen=True)
class _End(Generic[_Item]):
    """A work has ended, well or with a fault of ours."""

    fault: BaseException | None = None


def _text(item: object) -> int:
    """The letters of an event's text: what a host says of one step may be long."""
    return len(getattr(item, "text", ""))


class _Weighed(queue.Queue[Any]):
    """A queue that is full with 1000 items, or with 16 million letters of them."""

    _FULL, _UNIT = 1000, 16 * 1024

    def __init__(self, weigh: Callable[[Any], int]) -> None:
        super().__init__(self._FULL)
        self._weigh, self._units = weigh, 0

    def _qsize(self) -> int:
        return self._units

    def _put(self, item: Any) -> None:
        units = 1 + self._weigh(item) // self._UNIT
        self._units += units
        super()._put((units, item))

    def _get(self) -> Any:
        units, item = super()._get()
        self._units -= units
        return item


class _Line(Generic[_Item]):
    """A queue with an end on both sides: who puts waits while it is full, unless nobody reads any more."""

    def __init__(self, weigh: Callable[[_Item], int]) -> None:
        self.arrived = _Weighed(lambda item: 0 if isinstance(item, _End) else weigh(item))
        self.abandoned = threading.Event()

    def put(self, item: _Item | _End[_Item]) -> None:
        while not self.abandoned.is_set():
            try:
                self.arrived.put(item, timeout=0.2)
            except queue.Full:
                continue
            return


def gather(
    works: Sequence[Callable[[Callable[[_Item], None]], None]],
    executor: Executor,
    weigh: Callable[[_Item], int] = _text,
) -> Iterator[_Item]:
    """Run all works, and yield what they emit as it comes; ends when the last work has ended.

    A reader that is slow slows the works down; one that goes away lets them end. A work reports its own failures as
    events; an exception that escapes one is a fault of ours, and is raised here after the others have ended.
    weigh: the letters that an item holds, so that a host with long lines fills no memory.
    """
    line: _Line[_Item] = _Line(weigh)

    def guarded(work: Callable[[Callable[[_Item], None]], None]) -> None:
        try:
            work(line.put)
        except BaseException as error:  # it must reach the operator, whatever it is
            line.put(_End(error))
        else:
            line.put(_End())

    for work in works:
        executor.submit(guarded, work)
    running, fault = len(works), None
    try:
        while running:
            item = line.arrived.get()
            if isinstance(item, _End):
                running -= 1
                fault = fault or item.fault
            else:
                yield item
    finally:
        line.abandoned.set()
    if fault:
        raise fault
