"""Lines of many hosts as one stream in the order of their times, each held for a moment. Pure: it is told the time."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class Merge(Generic[_Item]):
    """Holds each item for `hold` seconds after it came, and gives out nothing that is later than one still held.

    room: the size of all that is held; beyond it the earliest leave before their time, so that memory stays flat.
    """

    def __init__(self, hold: float, room: int) -> None:
        self._hold, self._room, self._size, self._count = hold, room, 0, 0
        self._heap: list[tuple[float, int, int, _Item]] = []
        self._came: deque[tuple[int, float]] = deque()
        self._gone: set[int] = set()
        self._last: dict[str, float] = {}

    def push(self, host: str, time: float, item: _Item, size: int, now: float, wall: float) -> None:
        """An item of a host, written at `time` by its own clock. now: a clock that never jumps; wall: the time of day.

        Items of one host keep their order, whatever its clock did; one from the future counts as of now, so that a
        clock that is fast delays nobody else's.
        """
        stamp = max(self._last.get(host, 0.0), min(time, wall))
        self._last[host] = min(stamp, wall)
        heapq.heappush(self._heap, (stamp, self._count, size, item))
        self._came.append((self._count, now))
        self._count += 1
        self._size += size

    def due(self, now: float) -> Iterator[_Item]:
        """What may leave now, in order."""
        while self._heap and (self._size > self._room or self._came[0][1] + self._hold <= now):
            yield self._leave()

    def rest(self) -> Iterator[_Item]:
        """All that is held, in order."""
        while self._heap:
            yield self._leave()

    def _leave(self) -> _Item:
        _, number, size, item = heapq.heappop(self._heap)
        self._size -= size
        self._gone.add(number)
        while self._came and self._came[0][0] in self._gone:
            self._gone.remove(self._came.popleft()[0])
        return item
