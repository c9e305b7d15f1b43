"""How much of a payload has gone, told while it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

EVERY = 1.0
"""Seconds between two words about it."""


def counted(
    pieces: Iterable[bytes], total: int, tell: Callable[[int, float], None], clock: Callable[[], float] = time.monotonic
) -> Iterator[bytes]:
    """The same pieces; whoever asks for the next one has sent the last.

    total: bytes of the files in it. tell: is given the bytes that have gone, `total` at the end, and the seconds since
    the first, unless all of it takes less than EVERY.
    """
    began, gone, told = clock(), 0, 0.0
    for piece in pieces:
        yield piece
        gone += len(piece)
        seconds = clock() - began
        # There is more in it than files: their end is the end of all.
        if seconds - told >= EVERY and gone < total:
            told = seconds
            tell(gone, seconds)
    if told:
        tell(total, clock() - began)
