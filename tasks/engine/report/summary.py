"""Sum up a run from its events. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tasks.engine.errors import Unreachable, exit_status
from tasks.engine.events import Event, Failed, Finished, Notice

HEADINGS = ("host", "from", "to", "result", "seconds")


@dataclass
class Tally:
    """The count of the events of a run over `hosts`. closing: notices that name the next command."""

    hosts: Sequence[str]
    finished: dict[str, Finished] = field(default_factory=dict)
    failed: dict[str, Failed] = field(default_factory=dict)
    closing: list[Notice] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, Finished):
            self.finished[event.host] = event
        elif isinstance(event, Failed):
            self.failed[event.host] = event
        elif isinstance(event, Notice) and event.next:
            self.closing.append(event)

    @property
    def status(self) -> int:
        """Exit status of the run, from its errors."""
        return exit_status([failed.error for failed in self.failed.values()], len(self.hosts))

    @property
    def not_begun(self) -> tuple[str, ...]:
        """The hosts that were not begun."""
        return tuple(host for host in self.hosts if host not in self.finished and host not in self.failed)

    @property
    def left_behind(self) -> tuple[str, ...]:
        """The hosts that the run left behind: failed, not reached, not begun, or taken back."""
        undone = {host for host, event in self.finished.items() if event.outcome == "undone"}
        return tuple(host for host in self.hosts if host in {*self.failed, *undone, *self.not_begun})

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield the table of the run, a row for each host."""
        for host in self.hosts:
            if host in self.failed:
                failed = self.failed[host]
                yield host, "-", "-", outcome(failed).upper(), f"{failed.seconds:.1f}"
            elif host in self.finished:
                done = self.finished[host]
                before, after = done.facts.get("before") or "-", done.facts.get("release") or "-"
                yield host, str(before), str(after), done.outcome, f"{done.seconds:.1f}"
            else:
                yield host, "-", "-", "not begun", "-"

    def sentence(self) -> str:
        """Return one line with the number of hosts for each outcome."""
        counts: dict[str, int] = {}
        outcomes = [event.outcome for host, event in self.finished.items() if host not in self.failed]
        for name in [*outcomes, *map(outcome, self.failed.values())]:
            counts[name] = counts.get(name, 0) + 1
        parts = [f"{count} {name}" for name, count in counts.items()]
        if self.not_begun:
            parts.append(f"{len(self.not_begun)} not begun ({', '.join(self.not_begun)})")
        return f"{len(self.hosts)} hosts: {', '.join(parts)}"


def outcome(event: Failed) -> str:
    """Return the outcome of a host that failed, in one word."""
    return "unreachable" if isinstance(event.error, Unreachable) else "failed"
