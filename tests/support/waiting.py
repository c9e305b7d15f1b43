"""Wait for an event, and not for seconds."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(found: Callable[[], object]) -> None:
    """Wait until this is true; a test that waits for ever has failed."""
    end = time.monotonic() + 120
    while not found():
        assert time.monotonic() < end, "this did not come"
        time.sleep(0.1)
