"""Draw a picture in place on a terminal, again and again, with lasting lines above it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.live import Live

_Item = TypeVar("_Item")


def console() -> Console:
    """Return a console on standard output; it shows `?` for each character that the terminal's encoding lacks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return Console(highlight=False, markup=False, emoji=False)


class Picture(Live):
    """A picture whose cursor stays visible: an exit at once, on a second Ctrl-C, could not show it again."""

    def start(self, refresh: bool = False) -> None:
        """Begin to draw."""
        super().start(refresh)
        self.console.show_cursor(True)


def fitting(items: Sequence[_Item], room: int, rank: Callable[[_Item], int]) -> list[_Item]:
    """Choose as many items as there is room for, those of the lowest rank first; keep their order."""
    chosen = sorted(range(len(items)), key=lambda index: rank(items[index]))[:room]
    return [items[index] for index in sorted(chosen)]
