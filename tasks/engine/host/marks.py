"""Reads what a script prints: lines that carry the run's nonce are ours, the rest is output. No I/O in here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tasks.engine.errors import LoopError

LINE_LIMIT = 64 * 1024
"""Bytes of a foreign line that are kept; the rest of it is dropped."""

TEXT_LIMIT = 1024 * 1024
"""Bytes that one of our own lines may have."""

MARK_LIMIT = 8 * 1024 * 1024
"""Bytes that one of our own lines may have that begins with `data`: a file's content travels in it."""


KEPT = 64 * 1024 * 1024
"""Bytes of our own lines that one script may answer in all: above that it is no answer, but an attack on memory."""

MARKS = 200_000
"""Our own lines that one script may answer: each takes time to read, however short it is."""


class TooMuch(LoopError):
    """A script answered without an end."""

    code = "too-much"


class Mark(NamedTuple):
    """One of our lines: `@NONCE word rest`."""

    word: str
    rest: str


class Output(NamedTuple):
    """A line of something else: the login shell's greeting, a program's complaint."""

    text: str


@dataclass
class Reader:
    """Feed it bytes as they come, in any pieces; it yields the lines that are complete.

    A mark ends the line that it stands in: what a login shell or a program says need not end with one.
    """

    nonce: str
    _buffer: bytearray = field(default_factory=bytearray)
    _searched: int = 0
    _dropping: bool = False
    _deaf: bool = False

    def __post_init__(self) -> None:
        self._head = f"@{self.nonce} ".encode()
        self._data = self._head + b"data "

    def feed(self, data: bytes) -> Iterator[Mark | Output]:
        """The lines that `data` completes."""
        self._buffer += data
        while (end := self._end()) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + self._buffer.startswith(b"\n", end)]
            self._searched = 0
            if not self._dropping:
                yield self._cut(line) if len(line) > self._limit(line) else self._parse(line)
            self._dropping = self._deaf = False
        if len(self._buffer) >= self._limit(self._buffer) + len(self._head):
            if not self._dropping:
                yield self._cut(self._buffer)
            self._dropping = True
            self._deaf = self._deaf or self._buffer.startswith(self._head)
            # A mark may have begun at its end.
            del self._buffer[: 1 - len(self._head)]
            self._searched = 0

    def _end(self) -> int:
        """Where the line ends that the buffer begins with: at its own end, or at a mark; -1 while it does not.

        What was searched before is not searched again: a line may come byte by byte.
        """
        start, size = self._searched, len(self._buffer)
        # A mark may have begun at the end of what was searched.
        self._searched = max(0, size - len(self._head) + 1)
        end = self._buffer.find(b"\n", start)
        if self._deaf or self._buffer.startswith(self._head):
            return end
        mark = self._buffer.find(self._head, start, end if end >= 0 else size)
        return mark if mark >= 0 else end

    def _limit(self, line: bytes | bytearray) -> int:
        if line.startswith(self._data):
            return MARK_LIMIT
        return TEXT_LIMIT if line.startswith(self._head) else LINE_LIMIT

    @staticmethod
    def _cut(line: bytes | bytearray) -> Output:
        return Output(line[:LINE_LIMIT].decode("utf-8", "replace") + " ...")

    def close(self) -> Iterator[Mark | Output]:
        """What was left without an end of line: never one of our marks, which are whole or cut off."""
        if self._buffer and not self._dropping:
            yield Output(self._buffer.decode("utf-8", "replace"))
        self._buffer.clear()

    def _parse(self, line: bytes) -> Mark | Output:
        text = line.decode("utf-8", "replace")
        if not line.startswith(self._head):
            return Output(text.removesuffix("\r"))
        word, _, rest = text[len(self._head) :].partition(" ")
        # Part of it may go into the next script, and no shell can be given a NUL.
        return Mark(word, rest.replace("\0", "\ufffd"))


@dataclass
class Transcript:
    """What a script said so far: its marks by word, the last lines of its other output, and its exit status."""

    marks: dict[str, list[str]] = field(default_factory=dict)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    exit: int = 0
    _size: int = 0
    _count: int = 0

    def add(self, item: Mark | Output) -> None:
        """Keep one line; TooMuch when there is no end to them."""
        if isinstance(item, Mark):
            self._size += len(item.word) + len(item.rest) + 64
            self._count += 1
            if self._size > KEPT or self._count > MARKS:
                raise TooMuch(f"the host answers more than {KEPT // 1024**2} MiB, or more than {MARKS} lines",
                              next="look at it by hand: fab shell -H HOST")  # fmt: skip
            self.marks.setdefault(item.word, []).append(item.rest)
        elif item.text.strip():
            self.tail.append(item.text)

    def all(self, word: str) -> tuple[str, ...]:
        """Everything marked with this word."""
        return tuple(self.marks.get(word, ()))

    def last(self, word: str) -> str | None:
        """The last thing marked with this word."""
        return self.marks[word][-1] if word in self.marks else None

    @property
    def ended(self) -> bool:
        """Whether the script said that it came to its end."""
        return "end" in self.marks
