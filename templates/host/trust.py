"""Find who can exchange what a path leads to: every directory and every link on the way from `/` counts."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from . import this_interpreter
from .run import Refused

_LINKS = 40
"""Links on one way: the kernel follows no more."""


def require_roots_own(*paths: str) -> None:
    """Raise Refused unless only root can put another file or directory in the place of these.

    Checks all that a path leads through; skips what does not exist yet.
    """
    for path in paths:
        if place := _not_roots(path):
            way = f"chown root:root {place} && chmod go-w {place}"
            way = f"chown -h root:root {place}" if os.path.islink(place) else way
            raise Refused(f"{place} is not root's alone, and root writes below it: {way}")


def is_roots_own(path: str) -> bool:
    """Return whether only root can put another file or directory in the place of this one."""
    return not _not_roots(path)


def open_place(path: str) -> str:
    """Return where an account that is neither root nor ours can exchange what a path leads to; empty if nowhere."""
    try:
        return next((place for place, status in passed(path) if this_interpreter.is_open(place, status)), "")
    except OSError:
        return path


def passed(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield each directory and link that a path leads through, and its end, with the status; OSError for a circle.

    A link to a directory leads through directories of its own. What is missing, and all below it, is left out.
    """
    at, left, links = "/", path.split("/")[::-1], 0
    yield at, os.lstat(at)
    while left:
        name = left.pop()
        if name in {"", ".", ".."}:
            at = os.path.dirname(at) if name == ".." else at
            continue
        here = f"{at.rstrip('/')}/{name}"
        try:
            status = os.lstat(here)
        except (FileNotFoundError, NotADirectoryError):
            return
        yield here, status
        if not stat.S_ISLNK(status.st_mode):
            at = here
            continue
        links += 1
        if links > _LINKS:
            raise OSError(0, "too many links lead from one to the next", path)
        target = os.readlink(here)
        at = "/" if target.startswith("/") else at
        left += target.split("/")[::-1]


def _not_roots(path: str) -> str:
    return next((place for place, status in passed(path) if not _roots_alone(place, status)), "")


def _roots_alone(place: str, status: os.stat_result) -> bool:
    if status.st_uid != 0 or stat.S_ISLNK(status.st_mode):
        return status.st_uid == 0
    by_group = status.st_mode & stat.S_IWGRP and (status.st_gid != 0 or this_interpreter.has_list(place))
    return not (by_group or status.st_mode & stat.S_IWOTH)
