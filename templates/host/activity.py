"""Who is at work on a service at this moment: asked without taking a lock, which a run that begins would meet."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import NamedTuple

from . import locks

_LAST = 4000
"""Bytes of a lock's file that are read: what its holder wrote."""


class Activity(NamedTuple):
    """busy: the line of who holds the lock, None when nobody does; adrift: of a run that nobody holds any more."""

    busy: str | None = None
    adrift: bool = False


def look(name: str) -> Activity:
    """The activity on a service."""
    if not held(f"{locks.RUN}/{name}/lock/activate"):
        return Activity()
    line = last_line(f"{locks.RUN}/{name}/lock/activate")
    # The watch of a probation is the host's own, and nobody's run.
    alone = _group(line) and not held(f"{locks.RUN}/{name}/lock/run") and not _on_probation(name)
    return Activity(line, bool(alone))


def held(path: str) -> bool:
    """Whether a process holds the lock of a file."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    at = f" {os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino} 0 EOF"
    return any(": FLOCK " in line and line.endswith(at) for line in _locks())


def _locks() -> Iterator[str]:
    """The lines of /proc/locks; then those of each open file of ours.

    In a container the first leaves out what a process has locked that ended, though others inherited it.
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
    """The last line of a lock's file."""
    try:
        with open(path, "rb") as file:
            return file.read(_LAST).decode("utf-8", "replace").rstrip("\n").rpartition("\n")[2]
    except OSError:
        return ""


def _group(line: str) -> bool:
    """Whether the holder named the processes that may be ended when their controller is gone."""
    try:
        group = json.loads(line)["group"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return type(group) is int and group > 0


def _on_probation(name: str) -> bool:
    try:
        there = os.lstat(f"{locks.RUN}/{name}/ctl/probation/until").st_size > 0
    except OSError:
        return False
    return there and held(f"{locks.RUN}/{name}/lock/guard")
