"""Read a small file of the system or of root, such as one of /proc. Links are followed: only root makes them there."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO


def opened(path: str) -> BinaryIO | None:
    """Open a regular file for reading, wherever links lead; None for anything else, OSError for a missing file.

    The look comes first, since to open a device can have an effect: that of a watchdog restarts the host.
    """
    found = os.open(path, os.O_PATH)
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            return None
        return os.fdopen(os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY), "rb")
    finally:
        os.close(found)


def content(path: str, limit: int) -> bytes | None:
    """Return the beginning of a file; None if it cannot be read. Nothing of a file of the kernel's that would wait."""
    try:
        file = opened(path)
        if file is None:
            return None
        with file:
            return file.read(limit) or b""
    except OSError:
        return None


def read(path: str, limit: int = 1 << 16) -> str:
    """Return the beginning of a file as text; empty if it cannot be read.

    Before a first setup /etc/NAME may be another account's, which may have put anything there.
    """
    return (content(path, limit) or b"").decode("utf-8", "replace")
