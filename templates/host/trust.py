"""Whether a place is root's alone, all the way from `/`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from .run import Refused


def require_roots_own(*paths: str) -> None:
    """Raise Refused unless only root can put another file or directory in the place of these.

    Looked at are the path as it is named and the one that its links lead to; what is not there yet is left out.
    """
    for path in (*paths, *(os.path.realpath(path) for path in paths)):
        for place in _places(path):
            try:
                found = os.lstat(place)
            except FileNotFoundError:
                continue
            if not _roots_alone(found):
                raise Refused(
                    f"{place} is not root's alone, and root writes below it: "
                    f"chown root:root {place} && chmod go-w {place}"
                )


def _places(path: str) -> Iterator[str]:
    while path != "/":
        yield path
        path = os.path.dirname(path)
    yield path


def _roots_alone(found: os.stat_result) -> bool:
    others = found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and found.st_gid != 0)
    return found.st_uid == 0 and (stat.S_ISLNK(found.st_mode) or not others)
