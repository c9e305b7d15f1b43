"""Format host names at the head of lines: in a column, each in its own colour on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO

from tasks.engine.quote import terminal

# Twelve colours that differ on dark and on light, the best first.
_COLOURS = (36, 33, 32, 35, 34, 31, 96, 93, 92, 95, 94, 91)


class Names:
    """Host names in a column, with or without colours."""

    def __init__(self, hosts: Sequence[str], *, colour: bool) -> None:
        self._width = max((len(host) for host in hosts), default=0)
        self._colours = {host: _COLOURS[index % len(_COLOURS)] for index, host in enumerate(hosts)} if colour else {}

    def padded(self, host: str) -> str:
        """Return the name, padded to the column and escaped for a terminal."""
        text = terminal(host).ljust(self._width)
        return f"\x1b[{self._colours[host]}m{text}\x1b[0m" if host in self._colours else text


def takes_colour(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """Return True for a terminal with colours, unless NO_COLOR is set."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"
