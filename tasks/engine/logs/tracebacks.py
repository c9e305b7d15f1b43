"""Join the lines of a traceback, and of the logging call before it, to one entry. Pure: the caller passes the time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from tasks.engine.host.log_entries import Entry
from tasks.engine.host.plain_lines import Process

_NEXT = 0.2
"""Seconds that an entry waits for its next line."""
_LONGEST = 0.4
"""Seconds that an entry waits in all: less than the merge of several hosts holds a line."""
_LINES = 500
_SIZE = 128 * 1024
"""Lines and bytes of one entry; the rest goes into another entry."""
_PROCESSES = 64
"""Processes whose last line is remembered."""
_HELD = 512 * 1024
"""Bytes of entries of all processes that wait for one that is not complete."""


class _Joined:
    """An entry that may get more lines."""

    def __init__(self, entry: Entry, now: float) -> None:
        self.first, self.lines, self.size = entry, [entry.text], entry.size
        self.began = self.latest = now
        self.traceback = self.complete = False

    def add(self, entry: Entry, now: float) -> None:
        """Append a line."""
        self.lines.append(entry.text)
        self.size += entry.size
        self.latest = now
        self.complete = len(self.lines) >= _LINES or self.size >= _SIZE

    def take(self) -> Entry:
        """Return all lines as one entry, an error if they are a traceback, and forget them."""
        entry = self.first
        if self.traceback:
            entry = entry._replace(text="\n".join(self.lines), level="error", stream="")
        self.first, self.lines = entry._replace(text=""), []
        return entry


class Joiner:
    """Takes the lines of one host's journal in their order, and returns entries in the order of their first lines.

    Only lines of the same process and stream are joined. An entry that is not complete holds back those after it
    for 0.4 s at most, and for less if they take more than 512 KiB.
    """

    def __init__(self) -> None:
        self._held: deque[_Joined] = deque()
        self._size = 0
        self._last: dict[str, tuple[Process, float, _Joined]] = {}

    def push(self, entry: Entry, now: float) -> list[Entry]:
        """Add a line; return the entries that are complete. now: any clock that runs on."""
        self._expire(now)
        process, time, joined = self._last.pop(entry.stream, None) or (Process(), 0.0, None)
        follows = bool(entry.stream) and process.follows(entry.text, entry.time - time)
        if joined and follows and not joined.complete:
            joined.add(entry, now)
            self._size += entry.size
        else:
            if joined:
                joined.complete = True
            joined = _Joined(entry, now)
            self._held.append(joined)
            self._size += entry.size
        joined.traceback = joined.traceback or (bool(entry.stream) and process.inside)
        if entry.stream and process.open:
            self._last[entry.stream] = (process, entry.time, joined)
        else:
            joined.complete = True
        self._limit()
        return list(self._complete())

    def due(self, now: float) -> list[Entry]:
        """Return the entries that have waited long enough."""
        self._expire(now)
        return list(self._complete())

    def rest(self) -> list[Entry]:
        """Return all that is held."""
        for joined in self._held:
            joined.complete = True
        return list(self._complete())

    def _expire(self, now: float) -> None:
        # The process is still remembered, so that the rest of a traceback is an error, too.
        for _, _, joined in self._last.values() if self._held else ():
            if now - joined.latest > _NEXT or now - joined.began > _LONGEST:
                joined.complete = True

    def _limit(self) -> None:
        while len(self._last) > _PROCESSES:
            self._last.pop(next(iter(self._last)))[2].complete = True
        left = self._size
        for joined in self._held:
            if left <= _HELD:
                return
            joined.complete = True
            left -= joined.size

    def _complete(self) -> Iterator[Entry]:
        while self._held and self._held[0].complete:
            joined = self._held.popleft()
            self._size -= joined.size
            yield joined.take()


def oldest_first(lines: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the entries of past lines. The lines' own times decide which belong together."""
    joiner = Joiner()
    for line in lines:
        yield from joiner.push(line, line.time)
    yield from joiner.rest()


def newest_first(lines: Iterable[Entry]) -> Iterator[Entry]:
    """Join past lines that come newest first; yield the entries in the same order.

    Lines are joined between two pauses: no entry spans a pause.
    """
    part: list[Entry] = []
    size = 0
    for line in lines:
        if part and (part[-1].time - line.time > _NEXT or size > _HELD):
            yield from _turned(part)
            part, size = [], 0
        part.append(line)
        size += line.size
    yield from _turned(part)


def _turned(part: list[Entry]) -> list[Entry]:
    return list(oldest_first(reversed(part)))[::-1]
