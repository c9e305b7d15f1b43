"""Bound what a host adds to our memory, output and logs. Pure."""

from __future__ import annotations

from collections.abc import Callable

SHOWN = 1024 * 1024
"""Bytes of the lines that one step of a host may show: some thousands of short ones."""
LOGGED = 16 * 1024 * 1024
"""Bytes of the lines that one step of a host may add to the run's log alone."""
_LINE = 256
"""Bytes that a line takes beside its text."""


def taken(*texts: str) -> int:
    """Return the bytes of memory that texts take: 1, 2 or 4 a character, as the widest character of the text needs."""
    return sum(text.__sizeof__() for text in texts)


class Room:
    """Room for lines of a host. size: its bytes; rest: called once, with a line in place of all that have no room."""

    def __init__(self, size: int, rest: Callable[[str], None]) -> None:
        self._left, self._rest = size, rest

    def has(self, text: str) -> bool:
        """Return whether there is room for a line, and use it. After a line that had no room, no other line has."""
        if self._left > 0:
            self._left -= taken(text) + _LINE
            if self._left <= 0:
                self._rest("(further lines of this step are left out)")
        return self._left > 0
