"""Work on many hosts at once: each work emits events from its thread, and one generator yields them as they come."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tasks.engine.events import Event
from tasks.engine.room import taken

Emit = Callable[[Event], None]
_Item = TypeVar("_Item")

LIMIT = 16
"""The largest number of threads for hosts; more would only cost memory."""


class Stop:
    """A request to stop, from a signal or a failed hook: work that has begun goes on to its end, its waits
    cut short, and no other work begins.

    signal: number of the signal, 0 for none.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._event = threading.Event()

    def set(self, signal: int) -> None:
        """Stop the run because of a signal."""
        self.signal = self.signal or signal
        self._event.set()

    def now(self) -> None:
        """Stop the run without a signal."""
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, for at most `seconds`; return True if it is set."""
        return self._event.wait(seconds)

    def __bool__(self) -> bool:
        return self._event.is_set()


def pool(size: int) -> Executor:
    """Return the executor for `size` hosts; any Executor of concurrent.futures can take its place."""
    return ThreadPoolExecutor(max_workers=max(1, min(size, LIMIT)), thread_name_prefix="host")


def run_in_thread(work: Callable[[], _Item]) -> Future[_Item]:
    """Run `work` in a daemon thread; return its Future."""
    future: Future[_Item] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # result() raises it
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


@dataclass(frozen=True)
class _End(Generic[_Item]):
    """The end of a work. fault: the exception that escaped it, a bug of this program."""

    fault: BaseException | None = None


def _size(item: object) -> int:
    """Return the bytes of memory of an event's text, which a host can make long."""
    return taken(getattr(item, "text", ""))


class _WeightedQueue(queue.Queue[Any]):
    """A queue that is full at 1000 items, or at 16 MB."""

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


class _Channel(Generic[_Item]):
    """A queue that either side can close: `put` waits while it is full, but not once the reader has left."""

    def __init__(self, weigh: Callable[[_Item], int]) -> None:
        self.arrived = _WeightedQueue(lambda item: 0 if isinstance(item, _End) else weigh(item))
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
    weigh: Callable[[_Item], int] = _size,
) -> Iterator[_Item]:
    """Run all works, and yield their events as they come; end when the last work has ended.

    A slow reader slows the works down; when the reader leaves, the works run to their ends. A work reports its failures
    as events. An exception that escapes a work is a bug, and is raised here after the other works have ended.
    weigh: returns the bytes of memory of an item, so that a host with long lines cannot fill the memory.
    """
    channel: _Channel[_Item] = _Channel(weigh)

    def guarded(work: Callable[[Callable[[_Item], None]], None]) -> None:
        try:
            work(channel.put)
        except BaseException as error:  # it must reach the operator, whatever it is
            channel.put(_End(error))
        else:
            channel.put(_End())

    for work in works:
        executor.submit(guarded, work)
    running, fault = len(works), None
    try:
        while running:
            item = channel.arrived.get()
            if isinstance(item, _End):
                running -= 1
                fault = fault or item.fault
            else:
                yield item
    finally:
        channel.abandoned.set()
    if fault:
        raise fault
