"""Write to a person or a program: lines that cannot steer a terminal, tables, errors, JSON documents."""

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
    """A writer of lines, escaped for the terminal. A closed pipe makes it silent, and the run goes on."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.closed = False

    def line(self, text: str = "") -> None:
        """Write one line; make control characters visible."""
        self.raw(terminal(text))

    def raw(self, text: str) -> None:
        """Write one line as it is: a text that is safe already, such as our own script."""
        if self.closed:
            return
        # Characters that the terminal's encoding lacks are shown as escapes.
        encoding: str = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            self._stream.flush()
        except BrokenPipeError:
            self.closed = True
            # Python flushes the stream at its end, too, which would fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def out() -> Writer:
    """Return a writer to standard output."""
    return Writer(sys.stdout)


def err() -> Writer:
    """Return a writer to standard error, for errors, and for progress beside JSON."""
    return Writer(sys.stderr)


def draws(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """Return True for a terminal on which the cursor moves and colours show."""
    return stream.isatty() and environ.get("TERM", "dumb") not in {"dumb", "unknown"}


def document(value: Mapping[str, object]) -> None:
    """Write the one JSON document of a query."""
    out().raw(encoded(value, indent=2))


def encoded(value: Mapping[str, object], indent: int | None = None) -> str:
    """Return a JSON object with its schema, in ASCII without control characters (nor DEL), safe for a terminal."""
    return json.dumps({"schema": SCHEMA, **value}, indent=indent, allow_nan=False).replace("\x7f", "\\u007f")


def error(problem: LoopError, *, as_json: bool) -> None:
    """Write an error: what failed, where, the lines that matter, and what to do next."""
    if as_json:
        document({"error": problem.as_dict()})
        return
    writer = err()
    for line in error_lines(problem):
        writer.line(line)


def error_lines(problem: LoopError) -> Iterable[str]:
    """Yield the error as lines of text."""
    yield f"error: {problem.message}"
    if problem.where:
        yield f"   at: {problem.where}"
    for line in problem.detail:
        yield f"    | {line}"
    if problem.next:
        yield f" next: {problem.next}"


def _cell(text: str) -> str:
    """Escape the text of a cell and cut it; JSON has the full text."""
    return terminal(text if len(text) <= _CELL else f"{text[:_CELL]} ...")


def table(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Yield the rows as lines with aligned columns; the last column is not padded.

    No table of rich: that takes 0.4 ms a row, so 4 s for a history of ten hosts.
    """
    shown = [[_cell(text) for text in row] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]) - 1)] if shown else []
    for row in shown:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
