"""Read a small file of the system or of root, such as one of /proc. Links are followed: only root makes them there."""

from __future__ import annotations

import os


def read(path: str, limit: int = 1 << 16) -> str:
    """Return the beginning of a file; empty if it cannot be read.

    Before a first setup /etc/NAME may be another account's: a pipe there is not waited for.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY), "rb") as file:
            return (file.read(limit) or b"").decode("utf-8", "replace")
    except OSError:
        return ""
