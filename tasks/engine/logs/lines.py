"""Bytes as they come, cut into lines. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def cut(pieces: Iterable[bytes], limit: int) -> Iterator[bytes | None]:
    """The lines, without their ends; None for one that has more than `limit` bytes, of which nothing is kept."""
    held, dropping = bytearray(), False
    for piece in pieces:
        *whole, rest = piece.split(b"\n")
        for line in whole:
            line = bytes(held) + line
            held.clear()
            yield None if dropping or len(line) > limit else line
            dropping = False
        if not dropping:
            held += rest
        if len(held) > limit:
            held.clear()
            dropping = True
    if held or dropping:
        yield None if dropping else bytes(held)
