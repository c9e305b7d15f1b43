"""Merge lines of many hosts into one stream by time; each is held for a moment. Pure: the caller passes the time."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class Merge(Generic[_Item]):
    """Hold each item for `hold` seconds after its arrival, and release items in the order of their times.

    room: limit of the size of all held items; beyond it the earliest leave sooner, so that memory stays flat.
    """

    def __init__(self, hold: float, room: int) -> None:
        self._hold, self._room, self._size, self._count = hold, room, 0, 0
        self._heap: list[tuple[float, int, int, _Item]] = []
        self._came: deque[tuple[int, float]] = deque()
        self._gone: set[int] = set()
        self._last: dict[str, float] = {}

    def push(self, host: str, time: float, item: _Item, size: int, now: float, wall: float) -> None:
        """Add an item that the host wrote at `time` by its own clock. now: monotonic clock; wall: time of day here.

        Items of one host keep their order, whatever its clock did. A time in the future counts as `wall`, so that a
        host with a fast clock does not delay the lines of others.
        """
        stamp = max(self._last.get(host, 0.0), min(time, wall))
        self._last[host] = min(stamp, wall)
        heapq.heappush(self._heap, (stamp, self._count, size, item))
        self._came.append((self._count, now))
        self._count += 1
        self._size += size

    def due(self, now: float) -> Iterator[_Item]:
        """Yield the items whose time has come, in order."""
        while self._heap and (self._size > self._room or self._came[0][1] + self._hold <= now):
            yield self._leave()

    def rest(self) -> Iterator[_Item]:
        """Yield all held items, in order."""
        while self._heap:
            yield self._leave()

    def _leave(self) -> _Item:
        _, number, size, item = heapq.heappop(self._heap)
        self._size -= size
        self._gone.add(number)
        while self._came and self._came[0][0] in self._gone:
            self._gone.remove(self._came.popleft()[0])
        return item
