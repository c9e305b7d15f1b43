"""Cut a stream of bytes into lines. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def cut(pieces: Iterable[bytes], limit: int) -> Iterator[bytes | None]:
    """Yield the lines without their ends; None in place of a line of more than `limit` bytes, which is dropped."""
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
