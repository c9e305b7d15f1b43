"""Report how much of a payload is sent, while it is sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

EVERY = 1.0
"""Seconds between two reports."""


def counted(
    pieces: Iterable[bytes], total: int, tell: Callable[[int, float], None], clock: Callable[[], float] = time.monotonic
) -> Iterator[bytes]:
    """Yield the same pieces, and report progress: a caller that asks for the next piece has sent the last.

    total: bytes of the files in the pieces
    tell: called with the bytes sent and the seconds since the beginning, at last with `total`; not called if all is
        sent within EVERY seconds
    """
    began, sent, reported = clock(), 0, 0.0
    for piece in pieces:
        yield piece
        sent += len(piece)
        seconds = clock() - began
        # The pieces hold more than files, so `total` is reported at the end alone.
        if seconds - reported >= EVERY and sent < total:
            reported = seconds
            tell(sent, seconds)
    if reported:
        tell(total, clock() - began)
