"""Run calls in parallel, for questions that each wait for a program."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """A call that runs in a thread of its own."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._returned: list[T] = []
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._returned.append(self._call())
        except Exception as error:
            self._error = error

    def result(self) -> T:
        """Wait for the call; return its result, or raise its exception."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._returned[0]
