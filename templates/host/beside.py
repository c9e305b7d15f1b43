"""Questions that are asked side by side: each waits for a program, and none for another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Beside(Generic[T]):
    """A call that is made meanwhile, in a thread of its own."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._found: list[T] = []
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._found.append(self._call())
        except Exception as error:
            self._error = error

    def result(self) -> T:
        """What it returned, when it has ended; what it raised is raised here."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._found[0]
