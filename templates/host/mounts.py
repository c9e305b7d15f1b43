"""Take away what other accounts have mounted in the directories of a service (FUSE): root cannot look through it.

Any account can mount a file system of its own over its directory, by fusermount. Root gets EACCES there, and a process
with the account's rights waits for as long as the account likes.
"""

from __future__ import annotations

import os
import re
from importlib import import_module
from typing import NamedTuple

from .locks import PROC
from .run import Refused, Run

_FORCE, _DETACH, _NOFOLLOW = 1, 2, 8
"""Flags of umount2(2). FORCE ends the connection, so that what waits for it goes on."""
_USER = re.compile(r"(?:^|,)user_id=([0-9]{1,10})(?:,|$)")
_OCTAL = re.compile(rb"\\([0-7]{3})")
_MOST = 64 << 20
"""Bytes to read of mountinfo: an account may have a thousand mounts, with paths of 16 kB."""
_ROUNDS = 20


class Mount(NamedTuple):
    """A file system that an account has mounted."""

    path: str
    uid: int


def found(*places: str) -> list[Mount]:
    """Return what accounts other than root have mounted at or below some directories, the newest first."""
    with open(f"{PROC}/self/mountinfo", "rb") as file:
        # Only a line feed ends a line: the kernel leaves a carriage return in a path as it is.
        mounts = map(_mount, file.read(_MOST).split(b"\n"))
        inside = tuple(f"{place}/" for place in places)
        return [mount for mount in mounts if mount and f"{mount.path}/".startswith(inside)][::-1]


def _mount(line: bytes) -> Mount | None:
    """Return the mount of a line of mountinfo, if an account other than root has made it."""
    words, _, after = line.partition(b" - ")
    kind, _, options = after.decode("utf-8", "surrogateescape").partition(" ")
    user = _USER.search(options.rpartition(" ")[2])
    if not kind.startswith("fuse") or user is None or int(user[1]) == 0:
        return None
    path = _OCTAL.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), words.split(b" ")[4])
    return Mount(os.fsdecode(path), int(user[1]))


def refuse(*places: str) -> None:
    """Raise Refused if an account other than root has mounted something there, before a process waits for it."""
    for mount in found(*places):
        raise Refused(
            f"the account with the uid {mount.uid} has mounted a file system of its own at {mount.path}: "
            "fab setup --as root takes it away"
        )


def detach(run: Run, *places: str) -> None:
    """Unmount what accounts other than root have mounted there, once; an account may mount something again."""
    _detach(run, found(*places))


def detach_all_of(run: Run, uid: int) -> None:
    """Unmount what an account has mounted anywhere: its processes that wait there would not end.

    To kill the process that answers for such a file system is not enough: another account may have its descriptor, too.
    """
    _detach(run, [mount for mount in found("") if mount.uid == uid])


def _detach(run: Run, mounts: list[Mount]) -> None:
    for mount in mounts:
        run.say("unmount", f"{mount.path}, a file system of the account with the uid {mount.uid}")
        _unmount(mount.path)


def require_none(run: Run, *places: str) -> None:
    """Unmount what accounts other than root have mounted there; Refused if that is mounted again and again."""
    for _ in range(_ROUNDS):
        detach(run, *places)
        left = found(*places)
        if not left:
            return
    raise Refused(f"{left[0].path} is mounted again and again: lock the account with the uid {left[0].uid}")


def _unmount(path: str) -> None:
    """Unmount; ignore a mount that is gone, or lies below one that is taken away next."""
    import_module("ctypes").CDLL(None, use_errno=True).umount2(os.fsencode(path), _FORCE | _DETACH | _NOFOLLOW)
