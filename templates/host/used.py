"""Which releases are there, and from which of them something runs."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from .accounts import find
from .folders import Folder
from .locks import PROC, take

_RELEASE = re.compile("[0-9a-f]{12}")


def by_age(releases: Folder) -> list[str]:
    """The newest first, and nothing that is no release, whatever somebody has put between them."""
    found = []
    for name in filter(_RELEASE.fullmatch, releases.names()):
        status = releases.status(name)
        if status and stat.S_ISDIR(status.st_mode):
            found.append((status.st_mtime, name))
    return [name for _, name in sorted(found, reverse=True)]


def in_use(releases: Folder, name: str, service: str) -> bool:
    """Whether something runs from a release: a launcher locks it, and what it starts inherits that.

    Those of older versions did not: what names a release in its command line runs from it, too. That counts for the
    service's user and for this account: anybody else may write there what he likes.
    """
    with releases.below(name) as release:
        # A lock that we get ends when this closes it.
        if not take(release.descriptor):
            return True
    return bool(named_by(service, name))


def named_by(service: str, release: str) -> list[int]:
    """The processes of the service's user and of this account that name a release in their command line."""
    return sorted(pid for pid, words in _command_lines(service) if f"/releases/{release}/".encode() in words)


def _command_lines(service: str) -> Iterator[tuple[int, bytes]]:
    account = find(service)
    users = {os.geteuid(), *([account.uid] if account else [])}
    for pid in filter(str.isdigit, os.listdir(PROC)):
        try:
            # Of the directory: the files below it are root's where a process lets nobody look into it.
            if os.stat(f"{PROC}/{pid}").st_uid in users:
                with open(f"{PROC}/{pid}/cmdline", "rb") as file:
                    yield int(pid), file.read(1 << 16)
        except OSError:
            continue
