"""Find the run that is at work on a service. Takes no lock: a run that starts now would find the lock taken."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from . import locks, small_file
from .folders import Folder

_SECONDS = 5
"""Seconds of one look at open files."""
_UID = re.compile(r"^Uid:\t([0-9]+)\t([0-9]+)\t", re.MULTILINE)
"""The real and the effective uid of a process."""


class Activity(NamedTuple):
    """holder: the line that the lock's holder wrote, or None; abandoned: it is a run whose controller is gone."""

    holder: str | None = None
    abandoned: bool = False


def look(name: str) -> Activity:
    """Return the activity on a service."""
    line = _holder(name)
    if line is None:
        return Activity()
    if not group_of(line):
        return Activity(line)
    guard, until = f"{locks.RUN}/{name}/lock/guard", f"{locks.RUN}/{name}/ctl/probation/until"
    # A guard that watches a probation needs no controller, so it is not abandoned.
    if guarded(guard, until) or held(f"{locks.RUN}/{name}/lock/run"):
        return Activity(line)
    # A guard or a run that has ended since the first look is not at work any more.
    again = _holder(name)
    return Activity(again, again == line)


def _holder(name: str) -> str | None:
    """Return the line of the process that holds the change lock; None if the lock is free."""
    path = f"{locks.RUN}/{name}/lock/activate"
    return last_line(path) if held(path) else None


def held(path: str) -> bool:
    """Return True if a process holds the lock of a file."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    file = f" {os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino} 0 EOF"
    return any(": FLOCK " in line and line.endswith(file) for line in _locks(status.st_uid))


def _locks(owner: int) -> Iterator[str]:
    """Yield the lines of each open file that we may read, for _SECONDS at most, then those of /proc/locks.

    The files come first: any account can fill /proc/locks, which is then read in part. It has the locks of processes
    whose files we may not read, and in a container omits a lock whose taker has ended, even if others inherited it.
    owner: of the lock's file. Root may read all files, and any account can have millions of them open: it looks only
    at those of its own and of the owner, since no other account could open the lock.
    """
    yield from _of_open_files(owner)
    yield from locks.listed()


def _of_open_files(owner: int) -> Iterator[str]:
    end, all_open = time.monotonic() + _SECONDS, os.geteuid() == 0
    for pid in filter(str.isdigit, os.listdir(locks.PROC)):
        if all_open and not _is_of(pid, owner):
            continue
        with suppress(OSError), os.scandir(f"{locks.PROC}/{pid}/fdinfo") as files:
            for file in files:
                if time.monotonic() > end:
                    return
                yield from _lines(file.path, end)


def _is_of(pid: str, owner: int) -> bool:
    """Return whether root or this account has started a process: a setuid program still has the uid of its caller."""
    found = _UID.search(small_file.read(f"{locks.PROC}/{pid}/status"))
    return found is not None and {int(found[1]), int(found[2])} <= {0, owner}


def _lines(path: str, end: float) -> Iterator[str]:
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            yield line.rstrip("\n")
            if time.monotonic() > end:
                return


def last_line(path: str) -> str:
    """Return the last line of a lock file.

    Before a first setup another account may have put a pipe there, or a link.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return locks.read(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        return ""


def group_of(line: str) -> int:
    """Return the process group in a holder's line, which may be ended once its controller is gone; 0 for none."""
    try:
        group = json.loads(line)["group"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
    return group if type(group) is int and group > 0 else 0


def guarded(guard: str, until: str) -> bool:
    """Return True if a guard is at work on a task: the file `until` has a text, and the lock of `guard` is held.

    The deploy account owns the directory above that of `until`, and could put a link there, which root would follow.
    """
    folder, name = os.path.split(until)
    control, probation = os.path.split(folder)
    try:
        with Folder.open(control) as above, above.below(probation) as place:
            status = place.status(name)
    except OSError:
        return False
    return status is not None and status.st_size > 0 and held(guard)
