"""Events in, words out: the one module that decides how things look. Plain lines, or JSON, one object a line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import IO

from tasks.engine.errors import LoopError, Unreachable
from tasks.engine.events import Event, Failed, Finished, Line, Step
from tasks.engine.quote import terminal

SCHEMA = 1


class Writer:
    """Writes lines, escaped for the terminal; a closed pipe makes it silent, and ends nothing else."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.closed = False

    def line(self, text: str = "") -> None:
        """One line; what steers a terminal is made visible."""
        self.raw(terminal(text))

    def raw(self, text: str) -> None:
        """One line as it is: JSON, or a script of ours."""
        if self.closed:
            return
        try:
            self._stream.write(text + "\n")
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


def document(value: dict[str, object]) -> None:
    """The one JSON document of a query."""
    out().raw(json.dumps({"schema": SCHEMA, **value}, indent=2, sort_keys=False))


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


def table(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Rows of text in columns as wide as they need to be; the last one is not padded."""
    shown = [[terminal(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]) - 1)] if shown else []
    for row in shown:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()


class Follower:
    """Follows a run to its end and knows its exit status."""

    def __init__(self, hosts: Sequence[str], *, as_json: bool) -> None:
        self._hosts = tuple(hosts)
        self._width = max((len(host) for host in hosts), default=0)
        self._json = as_json
        self._writer = out()
        self._finished: dict[str, Finished] = {}
        self._failed: dict[str, Failed] = {}

    def follow(self, events: Iterable[Event]) -> int:
        """Show every event and return the exit status: 0, 1 (a host failed), 3 (unreachable, and nothing worse)."""
        for event in events:
            if isinstance(event, Finished):
                self._finished[event.host] = event
            elif isinstance(event, Failed):
                self._failed[event.host] = event
            if self._json:
                self._writer.raw(json.dumps({"schema": SCHEMA, **as_dict(event)}))
            else:
                self._show(event)
        if not self._json:
            self._sum_up()
        return self.status

    @property
    def status(self) -> int:
        """Exit status of what was followed."""
        errors = [failed.error for failed in self._failed.values()]
        if any(not isinstance(problem, Unreachable) for problem in errors):
            return 1
        return 3 if errors else 0

    def _show(self, event: Event) -> None:
        name = event.host.ljust(self._width)
        if isinstance(event, Step):
            self._writer.line(f"{name}  {event.phase:<8}  {event.step}{': ' if event.text else ''}{event.text}")
        elif isinstance(event, Line):
            self._writer.line(f"{name}  {event.kind}: {event.text}")
        elif isinstance(event, Finished):
            self._writer.line(f"{name}  {event.outcome.upper()}  {event.text}  ({event.seconds:.1f} s)")
        else:
            self._show_failure(name, event)

    def _show_failure(self, name: str, event: Failed) -> None:
        self._writer.line(f"{name}  {_failed(event).upper()}  {event.error.message}  ({event.seconds:.1f} s)")
        for line in event.error.detail:
            self._writer.line(f"    | {line}")
        self._writer.line(f"    serves now: {event.serves}")
        if event.error.next:
            self._writer.line(f"    next: {event.error.next}")

    def _sum_up(self) -> None:
        """With several hosts, one line that says where everything stands."""
        left = [host for host in self._hosts if host not in self._finished and host not in self._failed]
        if len(self._hosts) < 2 and not left:
            return
        counts: dict[str, int] = {}
        for outcome in [*(done.outcome for done in self._finished.values()), *map(_failed, self._failed.values())]:
            counts[outcome] = counts.get(outcome, 0) + 1
        parts = [f"{count} {outcome}" for outcome, count in counts.items()]
        if left:
            parts.append(f"{len(left)} not begun ({', '.join(left)})")
        self._writer.line(f"{len(self._hosts)} hosts: {', '.join(parts)}")


def _failed(event: Failed) -> str:
    return "unreachable" if isinstance(event.error, Unreachable) else "failed"


def as_dict(event: Event) -> dict[str, object]:
    """An event as the JSON lines carry it."""
    if isinstance(event, Step):
        return {"event": "step", "host": event.host, "phase": event.phase, "step": event.step, "text": event.text}
    if isinstance(event, Line):
        return {"event": event.kind, "host": event.host, "text": event.text}
    if isinstance(event, Finished):
        return {"event": "finished", "host": event.host, "outcome": event.outcome, "text": event.text,
                "seconds": round(event.seconds, 3), **event.facts}  # fmt: skip
    return {"event": "failed", "host": event.host, "error": event.error.as_dict(), "serves": event.serves,
            "seconds": round(event.seconds, 3)}  # fmt: skip
