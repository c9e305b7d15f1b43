"""Find the run that is at work on a service. Takes no lock: a run that starts now would find the lock taken."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import NamedTuple

from . import locks

_LAST = 4000
"""Bytes read of a lock file, in which its holder wrote a line."""


class Activity(NamedTuple):
    """busy: the line that the lock's holder wrote, or None; adrift: the holder is a run whose controller is gone."""

    busy: str | None = None
    adrift: bool = False


def look(name: str) -> Activity:
    """Return the activity on a service."""
    if not held(f"{locks.RUN}/{name}/lock/activate"):
        return Activity()
    line = last_line(f"{locks.RUN}/{name}/lock/activate")
    # The guard watches a probation without a controller: that is no run.
    alone = _has_group(line) and not held(f"{locks.RUN}/{name}/lock/run") and not _on_probation(name)
    return Activity(line, bool(alone))


def held(path: str) -> bool:
    """Return True if a process holds the lock of a file."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    file = f" {os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino} 0 EOF"
    return any(": FLOCK " in line and line.endswith(file) for line in _locks())


def _locks() -> Iterator[str]:
    """Yield the lines of /proc/locks, then those of each open file that we may read.

    In a container /proc/locks omits a lock whose taker has ended, even if other processes inherited it.
    """
    yield from _lines(f"{locks.PROC}/locks")
    for pid in filter(str.isdigit, os.listdir(locks.PROC)):
        try:
            files = os.listdir(f"{locks.PROC}/{pid}/fdinfo")
        except OSError:
            continue
        for file in files:
            yield from _lines(f"{locks.PROC}/{pid}/fdinfo/{file}")


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20).splitlines()
    except OSError:
        return []


def last_line(path: str) -> str:
    """Return the last line of a lock file."""
    try:
        with open(path, "rb") as file:
            return file.read(_LAST).decode("utf-8", "replace").rstrip("\n").rpartition("\n")[2]
    except OSError:
        return ""


def _has_group(line: str) -> bool:
    """Return True if the holder named a process group that may be killed once its controller is gone."""
    try:
        group = json.loads(line)["group"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return type(group) is int and group > 0


def _on_probation(name: str) -> bool:
    try:
        watched = os.lstat(f"{locks.RUN}/{name}/ctl/probation/until").st_size > 0
    except OSError:
        return False
    return watched and held(f"{locks.RUN}/{name}/lock/guard")
