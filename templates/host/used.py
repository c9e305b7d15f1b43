"""List the releases of a service, and find those that a process runs from."""

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
    """Return the releases, newest first; ignore every other entry of the directory."""
    dated = []
    for name in filter(_RELEASE.fullmatch, releases.names()):
        status = releases.status(name)
        if status and stat.S_ISDIR(status.st_mode):
            dated.append((status.st_mtime, name))
    return [name for _, name in sorted(dated, reverse=True)]


def in_use(releases: Folder, name: str, service: str) -> bool:
    """Return whether a process runs from a release: a launcher locks it, and its children inherit the lock.

    Launchers of older versions took no lock, so a process that names the release in its command line counts, too, if
    it belongs to the service's user or to this account: any other account could name a release at will.
    """
    status = releases.status(name)
    if not (status and stat.S_ISDIR(status.st_mode)):
        return False
    with releases.below(name) as release:
        # A lock that we get ends when the folder is closed.
        if not take(release.descriptor):
            return True
    return bool(named_by(service, name))


def named_by(service: str, release: str) -> list[int]:
    """Return the pids of the service's user and of this account with a release in their command line."""
    return sorted(pid for pid, words in _command_lines(service) if f"/releases/{release}/".encode() in words)


def _command_lines(service: str) -> Iterator[tuple[int, bytes]]:
    account = find(service)
    users = {os.geteuid(), *([account.uid] if account else [])}
    for pid in filter(str.isdigit, os.listdir(PROC)):
        try:
            # The directory's owner: the files in it are root's if the process is not dumpable.
            if os.stat(f"{PROC}/{pid}").st_uid in users:
                with open(f"{PROC}/{pid}/cmdline", "rb") as file:
                    yield int(pid), file.read(1 << 16)
        except OSError:
            continue
