"""So many at once, over all worker processes of the service."""

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
    """Places that threads and processes take and give back: a file for each, and whoever has locked it has the place.

    The files lie in the service's own directory, which all of its workers share; without one, in a directory of this
    process. The kernel gives back what a worker that has died had taken.
    """

    def __init__(self, count: int) -> None:
        folder = os.environ.get("STATE_DIRECTORY")
        if not folder:
            folder = tempfile.mkdtemp(prefix="places-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._files = [Path(folder, f".place-{number}") for number in range(count)]

    @contextmanager
    def taken(self) -> Iterator[int | None]:
        """The number of a place that is held meanwhile, or None: all are taken."""
        for number, file in enumerate(self._files):
            with file.open("ab") as place:
                try:
                    fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield number
                return
        yield None
