"""Show a run as plain lines, each with its host, or as JSON, one object a line. `screen` is the third view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from tasks.engine.events import Event, Failed, Finished, Line, Notice, Sent, Step
from tasks.engine.report import output
from tasks.engine.report.summary import HEADINGS, Tally, outcome


class View(Protocol):
    """A view that shows each event as it comes, and at the end their sum."""

    def show(self, event: Event) -> None:
        """Show one event."""
        ...

    def close(self, tally: Tally, log: str | None) -> None:
        """Show the end of the run. log: path of its full log."""
        ...


class Pace:
    """Choose the upload events that get a line: one after three seconds, one each ten from then on, and the last."""

    _FIRST, _EVERY = 3.0, 10.0

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def due(self, event: Event) -> bool:
        """Return True if this event gets a line."""
        if not isinstance(event, Sent):
            return True
        if event.seconds <= self._last.get(event.host, 0.0):
            # Another upload to this host has begun.
            self._due.pop(event.host, None)
        self._last[event.host] = event.seconds
        if event.seconds < self._due.get(event.host, self._FIRST) and not (
            event.sent == event.total and event.host in self._due
        ):
            return False
        self._due[event.host] = event.seconds + self._EVERY
        return True


class JsonLines:
    """A view of JSON, one object a line."""

    def __init__(self) -> None:
        self._writer, self._pace = output.out(), Pace()

    def show(self, event: Event) -> None:
        """Write one event, unless it is for the log alone."""
        if not _for_log(event) and self._pace.due(event):
            self._writer.raw(output.encoded(as_dict(event)))

    def close(self, tally: Tally, log: str | None) -> None:
        """Write nothing: every event has been written."""


class Plain:
    """A view of one line for each step, with its host: for pipes, files and CI."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._writer, self._pace = output.out(), Pace()
        self._width = max((len(host) for host in hosts), default=0)

    def show(self, event: Event) -> None:
        """Write one event as lines."""
        if not _for_log(event) and self._pace.due(event):
            for line in lines(event, self._width):
                self._writer.line(line)

    def close(self, tally: Tally, log: str | None) -> None:
        """Write the table, the sentence, and last the next command."""
        for line in closing_lines(tally, log):
            self._writer.line(line)


def _for_log(event: Event) -> bool:
    return isinstance(event, Line) and event.kind == "log"


def lines(event: Event, width: int) -> Iterator[str]:
    """Yield an event as lines of text."""
    if isinstance(event, Notice):
        if event.next is None:
            yield f"-- {event.text}"
        return
    name = event.host.ljust(width)
    if isinstance(event, Step):
        yield f"{name}  {event.phase:<8}  {event.step}{': ' if event.text else ''}{event.text}"
    elif isinstance(event, Sent):
        yield f"{name}  {event.phase:<8}  sent: {upload_progress(event)}"
    elif isinstance(event, Line):
        yield f"{name}  {event.kind}: {event.text}"
    elif isinstance(event, Finished):
        yield f"{name}  {event.outcome.upper()}  {event.text}  ({event.seconds:.1f} s)"
    else:
        yield from _failure(name, event)


def upload_progress(event: Sent) -> str:
    """Return the progress and speed of an upload, for a person."""
    return f"{event.sent / 1e6:.1f} of {event.total / 1e6:.1f} MB, {event.sent / 1e6 / (event.seconds or 1):.1f} MB/s"


def _failure(name: str, event: Failed) -> Iterator[str]:
    yield f"{name}  {outcome(event).upper()}  {event.error.message}  ({event.seconds:.1f} s)"
    for line in event.error.detail:
        yield f"    | {line}"
    yield f"    serves now: {event.serves}"
    if event.error.next:
        yield f"    next: {event.error.next}"


def closing_lines(tally: Tally, log: str | None) -> Iterator[str]:
    """Yield the lines at the end of a run: for several hosts, or if a host was not begun or failed."""
    if len(tally.hosts) > 1:
        yield from output.table([HEADINGS, *tally.rows()])
    if len(tally.hosts) > 1 or tally.not_begun:
        yield tally.sentence()
    if log and (len(tally.hosts) > 1 or tally.failed or tally.not_begun):
        yield f"log of this run: {log}"
    for notice in tally.closing:
        yield f"{notice.text} {notice.next}"


def as_dict(event: Event) -> dict[str, object]:
    """Return an event as an object of the JSON lines."""
    if isinstance(event, Step):
        return {"event": "step", "host": event.host, "phase": event.phase, "step": event.step, "text": event.text}
    if isinstance(event, Sent):
        return {"event": "sent", "host": event.host, "phase": event.phase, "sent": event.sent, "total": event.total,
                "seconds": round(event.seconds, 3)}  # fmt: skip
    if isinstance(event, Line):
        return {"event": event.kind, "host": event.host, "text": event.text}
    if isinstance(event, Finished):
        return {"event": "finished", "host": event.host, "outcome": event.outcome, "text": event.text,
                "seconds": round(event.seconds, 3), **event.facts}  # fmt: skip
    if isinstance(event, Notice):
        return {"event": "notice", "text": event.text, "next": event.next}
    return {"event": "failed", "host": event.host, "error": event.error.as_dict(), "serves": event.serves,
            "seconds": round(event.seconds, 3)}  # fmt: skip
