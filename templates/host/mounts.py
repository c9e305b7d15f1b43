"""Take away what other accounts have mounted in the directories of a service (FUSE): root cannot look through it.

Any account can mount a file system of its own over its directory, by fusermount. Root gets EACCES there, and a process
with the account's rights waits for as long as the account likes.
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from importlib import import_module
from typing import NamedTuple

from . import small_file
from .locks import PROC
from .run import Refused, Run

_FORCE, _DETACH = 1, 2
"""Flags of umount2(2). FORCE ends the connection, so that what waits for it goes on."""
_PLACE = os.O_PATH | os.O_NOFOLLOW
_USER = re.compile(r"(?:^|,)user_id=([0-9]{1,10})(?:,|$)")
_OCTAL = re.compile(rb"\\([0-7]{3})")
_NUMBER = re.compile(r"^mnt_id:\t([0-9]+)$", re.MULTILINE)
_MOST = 64 << 20
"""Bytes to read of mountinfo: an account may have a thousand mounts, with paths of 16 kB."""
_ROUNDS = 20
_AT_ONCE = 64
"""Mounts to open at once: an account may have more than this program may have open files."""


class Mount(NamedTuple):
    """A file system that an account has mounted. number: that of the kernel, by which it tells mounts apart."""

    path: str
    uid: int
    number: str


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
    number, _, _, _, path = words.split(b" ")[:5]
    path = _OCTAL.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), path)
    return Mount(os.fsdecode(path), int(user[1]), number.decode())


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
    for start in range(0, len(mounts), _AT_ONCE):
        with ExitStack() as stack:
            opened = [(mount, _opened(mount.path)) for mount in mounts[start : start + _AT_ONCE]]
            there = [(mount, descriptor) for mount, descriptor in opened if descriptor is not None]
            for _, descriptor in there:
                stack.callback(os.close, descriptor)
            _detach_open(run, there)


def _detach_open(run: Run, opened: list[tuple[Mount, int]]) -> None:
    """Unmount what is open, if it is the file system that was found.

    The account can lead a path elsewhere at any moment. The kernel gives the number of an open mount to no other one.
    """
    theirs = {mount.number for mount in found("")}
    for mount, descriptor in opened:
        if mount.number in theirs and _number(descriptor) == mount.number:
            run.say("unmount", f"{mount.path}, a file system of the account with the uid {mount.uid}")
            _unmount(descriptor)


def require_none(run: Run, *places: str) -> None:
    """Unmount what accounts other than root have mounted there; Refused if that is mounted again and again."""
    for _ in range(_ROUNDS):
        detach(run, *places)
        left = found(*places)
        if not left:
            return
    raise Refused(f"{left[0].path} is mounted again and again: lock the account with the uid {left[0].uid}")


def _opened(path: str) -> int | None:
    """Open what is at a path, following no link; None if that cannot be done, as below another mount of an account."""
    place = os.open("/", _PLACE)
    try:
        for name in path.strip("/").split("/"):
            below = os.open(name, _PLACE, dir_fd=place)
            os.close(place)
            place = below
    except OSError:
        os.close(place)
        return None
    return place


def _number(descriptor: int) -> str:
    """Return the number of the mount in which an open file lies; empty if the kernel does not say."""
    found = _NUMBER.search(small_file.read(f"{PROC}/self/fdinfo/{descriptor}"))
    return found[1] if found else ""


def _unmount(descriptor: int) -> None:
    """Unmount what is open; ignore a mount that is gone, also with one that it lay below."""
    libc = import_module("ctypes").CDLL(None, use_errno=True)
    libc.umount2(f"/proc/self/fd/{descriptor}".encode(), _FORCE | _DETACH)
