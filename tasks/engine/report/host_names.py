"""Format host names at the head of lines: in a column, each in its own colour on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO

from tasks.engine.quote import terminal
from tasks.engine.report import output

# Twelve colours that can be told apart on a dark and on a light background, the best first.
_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "red", "bright_cyan", "bright_yellow", "bright_green",
            "bright_magenta", "bright_blue", "bright_red")  # fmt: skip


def padded(hosts: Sequence[str], stream: IO[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return each name, padded to the column and escaped; coloured for a terminal, unless NO_COLOR is set."""
    width = max((len(host) for host in hosts), default=0)
    names = {host: terminal(host).ljust(width) for host in hosts}
    if not output.draws(stream, environ) or environ.get("NO_COLOR"):
        return names
    from rich.style import Style

    # Once for each host: to print each line by rich takes 70 µs, and a fleet logs thousands a second.
    styles = [Style(color=colour) for colour in _COLOURS]
    return {host: styles[index % len(styles)].render(name) for index, (host, name) in enumerate(names.items())}
