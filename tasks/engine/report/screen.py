"""Show a run on a terminal: one live line for each host and a bar for all, with lasting lines above them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tasks.engine.events import Event, Failed, Finished, Notice, Sent, Step
from tasks.engine.quote import terminal
from tasks.engine.report import lines, live, output
from tasks.engine.report.summary import Tally

_SPARE_ROWS = 6
_COLOURS = {"failed": "bold red", "unreachable": "bold red", "warning": "yellow", "unchanged": "dim"}


@dataclass
class _Row:
    """The present state of a host. began: seconds of the monotonic clock, 0 before the first event."""

    phase: str = "waiting"
    doing: str = ""
    began: float = 0.0
    seconds: float | None = None
    style: str = ""


class Screen:
    """A live view, drawn a few times a second. If the terminal is too low for all hosts, running ones come first."""

    def __init__(self, hosts: Sequence[str], console: Console | None = None) -> None:
        self._rows = {host: _Row() for host in hosts}
        self._width = max((len(host) for host in hosts), default=0)
        self.console = console or live.console()
        self._live = live.Picture(
            get_renderable=self.picture, console=self.console, refresh_per_second=8, transient=True
        )
        self._live.start()

    def show(self, event: Event) -> None:
        """Show one event in its host's line, or above the live lines if it stays."""
        if isinstance(event, Step):
            row = self._rows[event.host]
            row.began = row.began or time.monotonic()
            row.phase, row.doing = event.phase, f"{event.step}{': ' if event.text else ''}{event.text}"
        elif isinstance(event, Sent):
            self._rows[event.host].doing = f"sent: {lines.upload_progress(event)}"
        elif isinstance(event, Finished):
            self._end(event.host, event.outcome, event.text, event.seconds, "green")
        elif isinstance(event, Failed):
            self._end(event.host, "failed", event.error.message, event.seconds, "red")
            self._stay(event)
        elif isinstance(event, Notice) or event.kind != "log":
            self._stay(event)

    def _end(self, host: str, phase: str, doing: str, seconds: float, style: str) -> None:
        self._rows[host] = _Row(phase, doing, 1.0, seconds, _COLOURS.get(phase, style))

    def _stay(self, event: Event) -> None:
        style = _COLOURS.get("failed" if isinstance(event, Failed) else getattr(event, "kind", ""), "")
        for number, line in enumerate(lines.lines(event, self._width)):
            self.console.print(Text(terminal(line), style=style if number == 0 else ""))

    def close(self, tally: Tally, log: str | None) -> None:
        """Replace the live lines by the summary of the run."""
        self._live.stop()
        if len(tally.hosts) == 1:
            for event in tally.finished.values():
                self._stay(event)
        for line in lines.closing_lines(tally, log):
            output.out().line(line)

    def picture(self) -> RenderableType:
        """Return the live lines as they are now."""
        table = Table.grid(padding=(0, 2))
        for column in ("host", "phase", "doing"):
            table.add_column(no_wrap=True, overflow="ellipsis", ratio=1 if column == "doing" else None)
        table.add_column(justify="right", no_wrap=True)
        table.expand = True
        room = max(3, self.console.height - _SPARE_ROWS)
        shown = self._first(room)
        for host, row in shown:
            seconds = row.seconds if row.seconds is not None else time.monotonic() - row.began if row.began else None
            table.add_row(
                Text(host),
                Text(row.phase, style=row.style or ("cyan" if row.began else "dim")),
                Text(terminal(row.doing)),
                Text("" if seconds is None else f"{seconds:.0f} s"),
            )
        over = sum(1 for row in self._rows.values() if row.seconds is not None)
        hidden = len(self._rows) - len(shown)
        caption = f"{over} of {len(self._rows)} hosts" + (f", {hidden} not shown" if hidden else "")
        bar = Table.grid(padding=(0, 2))
        bar.add_column(no_wrap=True)
        bar.add_column(no_wrap=True, overflow="ellipsis")
        width = min(30, self.console.width // 4)
        bar.add_row(ProgressBar(total=len(self._rows), completed=over, width=width), Text(caption))
        return Group(table, bar)

    def _first(self, room: int) -> list[tuple[str, _Row]]:
        """Choose the rows to show, running hosts before waiting and finished ones; keep the order of the run."""
        return live.fitting(
            list(self._rows.items()), room, lambda item: 2 if item[1].seconds is not None else 0 if item[1].began else 1
        )
