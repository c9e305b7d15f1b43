"""What is written to a person or a program: lines that cannot steer a terminal, tables, errors, documents."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO

from tasks.engine.errors import LoopError
from tasks.engine.quote import terminal

SCHEMA = 1
_CELL = 300


class Writer:
    """Writes lines, escaped for the terminal; a closed pipe makes it silent, and ends nothing else."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.closed = False

    def line(self, text: str = "") -> None:
        """One line; what steers a terminal is made visible."""
        self.raw(terminal(text))

    def raw(self, text: str) -> None:
        """One line as it is: a script of ours, or what is safe already."""
        if self.closed:
            return
        # What a terminal of another encoding cannot show, it shows as an escape.
        encoding: str = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            self._stream.flush()
        except BrokenPipeError:
            self.closed = True
            # What Python would flush at its end has nowhere to go either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def out() -> Writer:
    """Standard output."""
    return Writer(sys.stdout)


def err() -> Writer:
    """Standard error: progress beside JSON, and errors."""
    return Writer(sys.stderr)


def document(value: Mapping[str, object]) -> None:
    """The one JSON document of a query."""
    out().raw(encoded(value, indent=2))


def encoded(value: Mapping[str, object], indent: int | None = None) -> str:
    """A JSON object with its schema, in letters that steer no terminal: ASCII without controls, DEL included."""
    return json.dumps({"schema": SCHEMA, **value}, indent=indent, allow_nan=False).replace("\x7f", "\\u007f")


def error(problem: LoopError, *, as_json: bool) -> None:
    """What failed, where, the lines that matter, and what to do next."""
    if as_json:
        document({"error": problem.as_dict()})
        return
    writer = err()
    for line in error_lines(problem):
        writer.line(line)


def error_lines(problem: LoopError) -> Iterable[str]:
    """The error as lines of text."""
    yield f"error: {problem.message}"
    if problem.where:
        yield f"   at: {problem.where}"
    for line in problem.detail:
        yield f"    | {line}"
    if problem.next:
        yield f" next: {problem.next}"


def _cell(text: str) -> str:
    """What a host says at length, JSON has in full."""
    return terminal(text if len(text) <= _CELL else f"{text[:_CELL]} ...")


def table(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Rows of text in columns as wide as they need to be; the last one is not padded."""
    shown = [[_cell(text) for text in row] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]) - 1)] if shown else []
    for row in shown:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
