"""Limit how many commands run at once, over all worker processes of the service."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Places:
    """A fixed number of places; a thread takes one by locking its file and gives it back by unlocking it.

    The files lie in the service's state directory, which all workers share; without one, in a directory of this
    process. When a worker dies, the kernel unlocks its places.
    """

    def __init__(self, count: int) -> None:
        folder = os.environ.get("STATE_DIRECTORY")
        if not folder:
            folder = tempfile.mkdtemp(prefix="places-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._files = [Path(folder, f".place-{number}") for number in range(count)]

    @contextmanager
    def taken(self) -> Iterator[int | None]:
        """Hold a place and yield its number, or yield None if all are taken."""
        for number, file in enumerate(self._files):
            with file.open("ab") as place:
                try:
                    fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield number
                return
        yield None
