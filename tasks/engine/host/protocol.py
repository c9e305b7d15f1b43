"""Parse a step's output: a report is a line `NONCE {"report": WORD, "text": TEXT}`, the rest is output. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tasks.engine import untrusted_json
from tasks.engine.errors import LoopError
from tasks.engine.room import taken

LINE_LIMIT = 64 * 1024
"""Bytes kept of a line of output; the rest of the line is dropped."""

TEXT_LIMIT = 1024 * 1024
"""Bytes that the line of a report may have."""

DATA_LIMIT = 8 * 1024 * 1024
"""Bytes that the line of a report `data` may have: it carries a file's content."""

KEPT = 64 * 1024 * 1024
"""Bytes of memory that all reports of one step may take: a character takes up to 4."""

REPORTS = 200_000
"""Reports that one step may send: each takes time to read, however short it is."""


class TooMuch(LoopError):
    """A step sent more reports than the limits allow."""

    code = "too-much"


class Report(NamedTuple):
    """A report of the host's program. word: its kind."""

    word: str
    text: str


class Output(NamedTuple):
    """Another line: of the login shell's greeting, or of a program that ours has started (`output`)."""

    text: str


@dataclass
class Reader:
    """A parser that takes bytes in any pieces and yields the complete lines."""

    nonce: str
    _held: bytearray = field(default_factory=bytearray)
    _searched: int = 0
    _dropping: bool = False

    def __post_init__(self) -> None:
        self._head = f"{self.nonce} ".encode()
        self._data = self._head + b'{"report": "data", '

    def feed(self, data: bytes) -> Iterator[Report | Output]:
        """Yield the lines that `data` completes."""
        self._held += data
        # Search only the new bytes: a line may come byte by byte.
        while (end := self._held.find(b"\n", self._searched)) >= 0:
            line = bytes(self._held[:end])
            del self._held[: end + 1]
            self._searched = 0
            if not self._dropping:
                yield self._read(line)
            self._dropping = False
        self._searched = len(self._held)
        if len(self._held) > self._limit(self._held):
            if not self._dropping:
                yield self._read(bytes(self._held))
            self._dropping, self._searched = True, 0
            self._held.clear()

    def close(self) -> Iterator[Report | Output]:
        """Yield the rest without an end of line as output: a report without its end was cut off."""
        if self._held and not self._dropping:
            yield Output(self._held.decode("utf-8", "replace"))
        self._held.clear()

    def _limit(self, line: bytes | bytearray) -> int:
        if line.startswith(self._data):
            return DATA_LIMIT
        return TEXT_LIMIT if line.startswith(self._head) else LINE_LIMIT

    def _read(self, line: bytes) -> Report | Output:
        if len(line) > self._limit(line):
            return _cut(line)
        text = line.decode("utf-8", "replace")
        report = _report(text[len(self._head) :]) if line.startswith(self._head) else None
        return report or Output(text.removesuffix("\r"))


def _report(text: str) -> Report | Output | None:
    """Return the report in a JSON object; None for any other text."""
    try:
        value = untrusted_json.load(text, DATA_LIMIT)
    except ValueError:
        return None
    word, content = (value.get("report"), value.get("text", "")) if isinstance(value, dict) else (None, None)
    if not (isinstance(word, str) and isinstance(content, str)):
        return None
    # One line of encodable characters without NUL: part of it may go into the next script, and a shell takes no NUL.
    word, content = (
        part.encode("utf-8", "replace").decode().replace("\0", "\ufffd").replace("\n", " ") for part in (word, content)
    )
    if word != "output":
        return Report(word, content)
    line = content.encode()
    return Output(content) if len(line) <= LINE_LIMIT else _cut(line)


def _cut(line: bytes) -> Output:
    return Output(line[:LINE_LIMIT].decode("utf-8", "replace") + " ...")


@dataclass
class Transcript:
    """The result of a step so far: its reports by word, the last lines of its output, and its exit status."""

    reports: dict[str, list[str]] = field(default_factory=dict)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    exit: int = 0
    _size: int = 0
    _count: int = 0

    def add(self, item: Report | Output) -> None:
        """Keep a report or a line of output; TooMuch past the limits."""
        if isinstance(item, Report):
            self._size += taken(item.word, item.text)
            self._count += 1
            if self._size > KEPT or self._count > REPORTS:
                raise TooMuch(f"the host reports more than {KEPT // 1024**2} MiB, or more than {REPORTS} lines",
                              next="look at it by hand: fab shell -H HOST")  # fmt: skip
            self.reports.setdefault(item.word, []).append(item.text)
        elif item.text.strip():
            self.tail.append(item.text)

    def all(self, word: str) -> tuple[str, ...]:
        """Return the texts of all reports of this word."""
        return tuple(self.reports.get(word, ()))

    def last(self, word: str) -> str | None:
        """Return the text of the last report of this word; None if there is none."""
        return self.reports[word][-1] if word in self.reports else None

    @property
    def ended(self) -> bool:
        """True if the step reported that it reached its end."""
        return "end" in self.reports
