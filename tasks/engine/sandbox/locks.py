"""Hold an exclusive lock on a file; the kernel frees it when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def locked(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of a file; make the file and its directory if missing. Call `waiting()` before a wait."""
    handle = _take(path, waiting)
    while not _is_current(path, handle):
        handle.close()
        handle = _take(path, waiting)
    with handle:
        yield


def _take(path: Path, waiting: Callable[[], None]) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = path.open("a")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def _is_current(path: Path, handle: TextIO) -> bool:
    """Return True if the path is still the locked file, and not one made after a holder removed its directory."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle.fileno()))
    except FileNotFoundError:
        return False
