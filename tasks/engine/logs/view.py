"""How the lines of journals look: each with its host, in its own colour on a terminal, and no byte that steers it."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence

from tasks.engine.host import log_text
from tasks.engine.host.journal import Entry
from tasks.engine.logs.follow import Note
from tasks.engine.quote import terminal
from tasks.engine.report import output
from tasks.engine.report.host_names import Names, coloured

_WIDEST = 4096
"""Characters of a line on a terminal; a pipe gets all of them."""


class View:
    """Writes lines and notes, for a person or as JSON, one object a line."""

    def __init__(self, hosts: Sequence[str], *, as_json: bool) -> None:
        self._json, self._writer, self._notes = as_json, output.out(), output.err()
        self._cut = _WIDEST if sys.stdout.isatty() else None
        self._names = Names(hosts, colour=coloured(sys.stdout, os.environ))
        self._poll = select.poll()
        self._poll.register(sys.stdout.fileno(), 0)

    def show(self, item: Entry | Note) -> None:
        """One line of a journal, or what happened to its stream."""
        if isinstance(item, Note):
            self._note(item)
        elif self._json:
            self._writer.raw(output.encoded({"event": "line", **item.as_dict()}))
        else:
            head = f"{item.moment}  {self._names.of(item.host)}  {terminal(item.source)}: "
            for text in _told(item):
                self._writer.raw(head + self._shortened(terminal(text)))

    def gone(self) -> bool:
        """Whether nobody reads any more: seen without a line to write, so that a quiet fleet ends too."""
        return self._writer.closed or any(events & select.POLLERR for _, events in self._poll.poll(0))

    def _note(self, note: Note) -> None:
        if self._json:
            found = {"event": note.event, "host": note.host, "message": note.text}
            self._writer.raw(output.encoded(found))
        else:
            self._notes.line(f"{note.host}: {note.text}")

    def _shortened(self, text: str) -> str:
        if self._cut is None or len(text) <= self._cut:
            return text
        return f"{text[: self._cut]} ... {len(text) - self._cut} more characters"


def _told(entry: Entry) -> list[str]:
    """The words of a line; where nothing in it tells its weight, but journald does, that comes first."""
    words = log_text.words(entry.text)
    if entry.level in {"error", "warning"} and log_text.level(entry.text) is None:
        words[0] = f"{entry.level.upper()} {words[0]}"
    return words
