"""Show lines of journals: each with its host, in a colour of its own on a terminal, and with control bytes escaped."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence

from tasks.engine.host import log_text, plain_lines
from tasks.engine.host.log_entries import Entry
from tasks.engine.logs.follow import Note
from tasks.engine.quote import terminal
from tasks.engine.report import host_names, output

_WIDEST = 4096
"""Characters of a line that a terminal gets; a pipe gets all of them."""


class View:
    """A writer of lines and notes, for a person or as JSON, one object a line."""

    def __init__(self, hosts: Sequence[str], *, as_json: bool) -> None:
        self._json, self._writer, self._notes = as_json, output.out(), output.err()
        self._cut = _WIDEST if sys.stdout.isatty() else None
        self._names = host_names.padded(hosts, sys.stdout, os.environ)
        self._poll = select.poll()
        self._poll.register(sys.stdout.fileno(), 0)

    def show(self, item: Entry | Note) -> None:
        """Write one line of a journal, or a note about its stream."""
        if isinstance(item, Note):
            self._note(item)
        elif self._json:
            self._writer.raw(output.encoded({"event": "line", **item.as_dict()}))
        else:
            head = f"{item.moment}  {self._names[item.host]}  {terminal(item.source)}: "
            for text in _lines(item):
                self._writer.raw(head + self._shortened(terminal(text)))

    def reader_gone(self) -> bool:
        """Return True if the reader has closed the pipe. Needs no line to write, so that a quiet fleet ends, too."""
        return self._writer.closed or any(events & select.POLLERR for _, events in self._poll.poll(0))

    def _note(self, note: Note) -> None:
        if self._json:
            self._writer.raw(output.encoded({"event": note.event, "host": note.host, "message": note.text}))
        else:
            self._notes.line(f"{note.host}: {note.text}")

    def _shortened(self, text: str) -> str:
        if self._cut is None or len(text) <= self._cut:
            return text
        return f"{text[: self._cut]} ... {len(text) - self._cut} more characters"


def _lines(entry: Entry) -> list[str]:
    """Return the text of an entry as lines; put the level before them if the text itself does not name it."""
    lines = log_text.format_line(entry.text)
    own = log_text.level(entry.text) or plain_lines.level(entry.text)
    if entry.level in {"error", "warning"} and own != entry.level:
        lines[0] = f"{entry.level.upper()} {lines[0]}"
    return lines
