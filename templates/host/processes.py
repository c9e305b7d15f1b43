"""The processes of an account, and their end: as itself, as one of its sub-uids, and in user namespaces of either."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import suppress

from .accounts import of_uid
from .run import Refused, Run

SECONDS = 10
"""How long processes may take to end after SIGKILL."""
_SUBUID = "/etc/subuid"
_LIMIT = 1 << 20
_PARENT, _OWNER = 0xB702, 0xB704
"""NS_GET_PARENT and NS_GET_OWNER_UID of ioctl_ns(2)."""


def name_of(uid: int) -> str:
    """The name of an account; its number where there is none."""
    found = of_uid(uid)
    return found.name if found else str(uid)


def end(run: Run, uid: int) -> None:
    """End every process of an account; Refused where it is the one that has started us, or where they begin again."""
    if any(uid in _uids(pid) for pid in _ancestors()):
        raise Refused(
            f"{name_of(uid)} would give its own rights away and be ended by it: run this as root or as the new account"
        )
    deadline, whose = time.monotonic() + SECONDS, _Owner(uid)
    while pids := [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if whose.has(pid)]:
        if time.monotonic() > deadline:
            raise Refused(
                f"processes of {name_of(uid)} do not end, or begin again: lock that account (usermod -L -e 1)"
            )
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run.heed()
        time.sleep(0.05)


class _Owner:
    """One account, with the numbers that /etc/subuid gives to it alone."""

    def __init__(self, uid: int) -> None:
        self._uid, self._ours, self._others = uid, list[range](), list[range]()
        for owner, numbers in _subordinate():
            (self._ours if owner in {str(uid), name_of(uid)} else self._others).append(numbers)
        own = os.stat("/proc/self/ns/user")
        self._space = (own.st_dev, own.st_ino)

    def has(self, pid: int) -> bool:
        """Whether a process is its: as itself, as one of its sub-uids, or below a user namespace that either made."""
        return any(map(self._is, _uids(pid))) or any(map(self._is, self._makers(pid)))

    def _is(self, uid: int) -> bool:
        if uid == self._uid:
            return True
        return any(uid in one for one in self._ours) and not any(uid in one for one in self._others)

    def _makers(self, pid: int) -> Iterator[int]:
        """Who made the user namespace of a process, and those above it, up to ours."""
        try:
            space = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
        except OSError:
            return
        try:
            while _identity(space) != self._space:
                maker = bytearray(4)
                fcntl.ioctl(space, _OWNER, maker)
                yield struct.unpack("I", maker)[0]
                above = fcntl.ioctl(space, _PARENT)
                os.close(space)
                space = above
        except OSError:
            return
        finally:
            os.close(space)


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _subordinate() -> Iterator[tuple[str, range]]:
    """What /etc/subuid says: an account, by name or number, and numbers that it may use."""
    try:
        with open(_SUBUID, encoding="utf-8", errors="replace") as file:
            text = file.read(_LIMIT)
    except OSError:
        return
    for line in text.splitlines():
        owner, _, rest = line.partition(":")
        start, _, count = rest.partition(":")
        if start.isdecimal() and count.isdecimal():
            yield owner, range(int(start), int(start) + int(count))


def _uids(pid: int) -> set[int]:
    """Real, effective, saved and file system user of a process; none of one that has ended, a zombie included."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            lines = dict(line.partition(":")[::2] for line in file)
    except OSError:
        return set()
    # Where the first thread has ended, a process looks like a zombie while its others go on.
    over = "Z" in lines.get("State", "Z") and lines.get("Threads", "1").strip() == "1"
    return set() if over else set(map(int, lines["Uid"].split()))


def _ancestors() -> list[int]:
    """Who started this program, up to PID 1."""
    found, pid = [], os.getppid()
    while pid > 1:
        found.append(pid)
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            pid = int(file.read().rpartition(") ")[2].split()[1])
    return found
