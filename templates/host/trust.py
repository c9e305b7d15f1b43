"""Check that a place is root's alone, all the way from `/`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from .run import Refused


def require_roots_own(*paths: str) -> None:
    """Raise Refused unless only root can put another file or directory in the place of these.

    Checks each path as it is named and the path that its links lead to; skips what does not exist yet.
    """
    for path in (*paths, *(os.path.realpath(path) for path in paths)):
        for place in _ancestors(path):
            try:
                status = os.lstat(place)
            except FileNotFoundError:
                continue
            if not _roots_alone(status):
                raise Refused(
                    f"{place} is not root's alone, and root writes below it: "
                    f"chown root:root {place} && chmod go-w {place}"
                )


def _ancestors(path: str) -> Iterator[str]:
    while path != "/":
        yield path
        path = os.path.dirname(path)
    yield path


def _roots_alone(status: os.stat_result) -> bool:
    others = status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and status.st_gid != 0)
    return status.st_uid == 0 and (stat.S_ISLNK(status.st_mode) or not others)
