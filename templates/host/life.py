"""Pass signs of life of the controller on, from the process that performs steps to the one that holds the run lock."""

from __future__ import annotations

import os
import time
from contextlib import suppress

_BETWEEN = 1
"""Seconds between two signs at least."""


class Signs:
    """The signs that this process passes on, to a pipe; none without a pipe."""

    def __init__(self) -> None:
        self._pipe: int | None = None
        self._last = 0.0

    @property
    def passed_on(self) -> bool:
        """True in a performer."""
        return self._pipe is not None

    def go_to(self, pipe: int) -> None:
        """Pass signs on to this pipe from now on."""
        self._pipe = pipe

    def heard(self) -> None:
        """Pass on that the controller was heard."""
        if self._pipe is not None and time.monotonic() >= self._last + _BETWEEN:
            self._last = time.monotonic()
            # The holder may be gone, and the lock with it. Whether this step goes on is not for us to decide.
            with suppress(OSError):
                os.write(self._pipe, b".")


SIGNS = Signs()
