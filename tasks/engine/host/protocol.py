"""Reads what a script says: one report a line, `NONCE {"report": WORD, "text": TEXT}`. The rest is output. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tasks.engine import untrusted_json
from tasks.engine.errors import LoopError

LINE_LIMIT = 64 * 1024
"""Bytes of a foreign line that are kept; the rest of it is dropped."""

TEXT_LIMIT = 1024 * 1024
"""Bytes of the line of a report."""

DATA_LIMIT = 8 * 1024 * 1024
"""Bytes of the line of a report `data`: a file's content travels in it."""

KEPT = 64 * 1024 * 1024
"""Bytes of reports that one script may answer in all: above that it is no answer, but an attack on memory."""

REPORTS = 200_000
"""Reports that one script may answer: each takes time to read, however short it is."""


class TooMuch(LoopError):
    """A script answered without an end."""

    code = "too-much"


class Report(NamedTuple):
    """What the host's program says. word: what kind of thing it is."""

    word: str
    text: str


class Output(NamedTuple):
    """A line of something else: the login shell's greeting, or of a program that ours has started (`output`)."""

    text: str


@dataclass
class Reader:
    """Feed it bytes as they come, in any pieces; it yields the lines that are complete."""

    nonce: str
    _held: bytearray = field(default_factory=bytearray)
    _searched: int = 0
    _dropping: bool = False

    def __post_init__(self) -> None:
        self._head = f"{self.nonce} ".encode()
        self._data = self._head + b'{"report": "data", '

    def feed(self, data: bytes) -> Iterator[Report | Output]:
        """The lines that `data` completes."""
        self._held += data
        # What was searched before is not searched again: a line may come byte by byte.
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
        """What was left without an end of line: never one of our reports, which are whole or cut off."""
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
        found = _report(text[len(self._head) :]) if line.startswith(self._head) else None
        return found or Output(text.removesuffix("\r"))


def _report(text: str) -> Report | Output | None:
    """What a JSON object says; None for what is no report."""
    try:
        value = untrusted_json.load(text, DATA_LIMIT)
    except ValueError:
        return None
    word, told = (value.get("report"), value.get("text", "")) if isinstance(value, dict) else (None, None)
    if not (isinstance(word, str) and isinstance(told, str)):
        return None
    # One line, of letters that can be written: part of it may go into the next script, and no shell takes a NUL.
    word, told = (
        one.encode("utf-8", "replace").decode().replace("\0", "\ufffd").replace("\n", " ") for one in (word, told)
    )
    if word != "output":
        return Report(word, told)
    return Output(told) if len(told) <= LINE_LIMIT else _cut(told.encode())


def _cut(line: bytes) -> Output:
    return Output(line[:LINE_LIMIT].decode("utf-8", "replace") + " ...")


@dataclass
class Transcript:
    """What a script said so far: its reports by word, the last lines of its other output, and its exit status."""

    reports: dict[str, list[str]] = field(default_factory=dict)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    exit: int = 0
    _size: int = 0
    _count: int = 0

    def add(self, item: Report | Output) -> None:
        """Keep it; TooMuch when there is no end to them."""
        if isinstance(item, Report):
            self._size += len(item.word) + len(item.text) + 64
            self._count += 1
            if self._size > KEPT or self._count > REPORTS:
                raise TooMuch(f"the host answers more than {KEPT // 1024**2} MiB, or more than {REPORTS} lines",
                              next="look at it by hand: fab shell -H HOST")  # fmt: skip
            self.reports.setdefault(item.word, []).append(item.text)
        elif item.text.strip():
            self.tail.append(item.text)

    def all(self, word: str) -> tuple[str, ...]:
        """The texts of all reports of this word."""
        return tuple(self.reports.get(word, ()))

    def last(self, word: str) -> str | None:
        """The last of them."""
        return self.reports[word][-1] if word in self.reports else None

    @property
    def ended(self) -> bool:
        """Whether the script said that it came to its end."""
        return "end" in self.reports
