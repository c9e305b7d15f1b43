"""Read the data that follows a step on standard input."""

from __future__ import annotations

import os
import select
from typing import BinaryIO

from .run import Refused, Run

BLOCK = 1 << 16
"""Bytes in memory at a time."""
_LINE_BYTES = 4096
CUT = "what the controller sent did not arrive whole"


class Payload:
    """The data that follows a step on standard input; a signal ends the wait for it.

    ended: all of it has been read; taken: bytes that `read` has returned
    """

    def __init__(self, run: Run) -> None:
        self._run, self._descriptor = run, run.payload.fileno()
        self._held = _buffered(run.payload)
        self.ended = False
        self.taken = 0

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, as soon as there are any; none at the end."""
        if not self._held:
            self._held = self._receive()
        data, self._held = self._held[:size], self._held[size:]
        self.taken += len(data)
        return data

    @property
    def waiting(self) -> bool:
        """True if bytes have been read and not yet returned."""
        return bool(self._held)

    def line(self) -> str:
        """Return the next line, without its end."""
        while b"\n" not in self._held and len(self._held) < _LINE_BYTES:
            data = self._receive()
            if not data:
                raise Refused(CUT)
            self._held += data
        line, _, self._held = self._held.partition(b"\n")
        return line.decode("utf-8", "surrogateescape")

    def _receive(self) -> bytes:
        self._run.heed()
        while not select.select([self._descriptor], [], [], 0.1)[0]:
            self._run.heed()
        data = os.read(self._descriptor, BLOCK)
        self.ended = not data
        return data


def _buffered(stream: BinaryIO) -> bytes:
    """Return the bytes that Python buffered while it read the head lines; do not wait for more."""
    descriptor = stream.fileno()
    blocks = os.get_blocking(descriptor)
    os.set_blocking(descriptor, False)
    try:
        there = len(stream.peek())  # type: ignore[attr-defined]
        return stream.read(there) if there else b""
    finally:
        os.set_blocking(descriptor, blocks)
