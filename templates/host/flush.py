"""Flush what was written to the disk, all at once: Python has no syncfs, and fsync of each file takes far longer."""

from __future__ import annotations

from . import programs
from .run import Refused


def flush(*folders: str) -> None:
    """Flush everything below some directories; Refused if that fails."""
    if not programs.run("sync", "-f", *folders):
        names = " ".join(folders)
        raise Refused(f"{names} cannot be flushed to the disk: run sync -f {names} on this host")
