"""Host names before lines: in a column, each in its own colour on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO

from tasks.engine.quote import terminal

# Twelve that can be told apart on dark and on light; the first ones first.
_COLOURS = (36, 33, 32, 35, 34, 31, 96, 93, 92, 95, 94, 91)


class Names:
    """Host names in a column, coloured where that is wanted."""

    def __init__(self, hosts: Sequence[str], *, colour: bool) -> None:
        self._width = max((len(host) for host in hosts), default=0)
        self._colours = {host: _COLOURS[index % len(_COLOURS)] for index, host in enumerate(hosts)} if colour else {}

    def of(self, host: str) -> str:
        """The name, padded, safe to write as it is."""
        text = terminal(host).ljust(self._width)
        return f"\x1b[{self._colours[host]}m{text}\x1b[0m" if host in self._colours else text


def coloured(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """Whether this stream is a terminal that takes colours, and nobody asked for none."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"
