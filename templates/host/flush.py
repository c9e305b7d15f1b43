"""Flush what was written to the disk: one file, or all at once, for which Python has no syncfs."""

from __future__ import annotations

import os

from . import programs
from .run import Refused


def flush(*folders: str) -> None:
    """Flush everything below some directories; Refused if that fails. It waits for all data of their file systems."""
    if not programs.run("sync", "-f", *folders):
        names = " ".join(folders)
        raise Refused(f"{names} cannot be flushed to the disk: run sync -f {names} on this host")


def flush_file(path: str, descriptor: int) -> None:
    """Flush one file, and close it; Refused if that fails. path: of the file, for the message."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise Refused(f"{path} cannot be flushed to the disk: {error.strerror}") from error
    finally:
        os.close(descriptor)
