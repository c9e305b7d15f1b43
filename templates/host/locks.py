"""Locks between runs: files that root has named, in /run/NAME/lock, and that the deploy account alone can open."""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import signal
import time

from .run import Busy, Refused, Run

_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_HELD = re.compile(r"\d+: FLOCK +ADVISORY +WRITE +(\d+) ([0-9a-f]+:[0-9a-f]+):(\d+) ")
_LAST = 4000
"""Bytes of a lock's file that are read: what its holder wrote."""
RUN, PROC = "/run", "/proc"


class Lock:
    """A lock of one service. No program that is started inherits it. OSError where setup and boot have not made it."""

    def __init__(self, name: str, lock: str) -> None:
        self.path = f"{RUN}/{name}/lock/{lock}"
        self._descriptor = os.open(self.path, _OPEN)

    def close(self) -> None:
        """Let others have it, and forget it."""
        os.close(self._descriptor)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, *, shared: bool = False) -> bool:
        """Hold it, if nobody else does."""
        return take(self._descriptor, shared=shared)

    def free(self) -> None:
        """Let others have it."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def wait(self, run: Run, seconds: float, *, shared: bool = False, aloud: bool = False) -> bool:
        """Hold it as soon as nobody else does; whether that came in time. aloud: ends when nobody hears us."""
        began, told = time.monotonic(), 1
        while not self.take(shared=shared):
            gone = time.monotonic() - began
            if gone >= seconds:
                return False
            if aloud and gone >= told:
                run.report("pass", "0")
                told += 1
            run.heed()
            time.sleep(0.02)
        return True

    @property
    def held(self) -> bool:
        """Whether somebody else holds it."""
        if not self.take():
            return True
        self.free()
        return False

    def read(self) -> str:
        """The line of whoever holds it, or held it last."""
        text = os.pread(self._descriptor, _LAST, 0).decode("utf-8", "replace")
        return text.rstrip("\n").rpartition("\n")[2]

    def write(self, line: str) -> None:
        """Say who holds it."""
        write(self._descriptor, line)

    def refuse(self) -> Busy | Refused:
        """What to raise where another holds it."""
        if self.stranger:
            return Refused(f"{self.path} is held by {self.stranger}: look at it on this host, and end it")
        return Busy(self.read())

    @property
    def stranger(self) -> str:
        """Who holds it and is neither root nor its owner, in words; empty when nobody does."""
        return stranger_at(self._descriptor)

    def end_holders(self, number: signal.Signals, group: int) -> None:
        """Send a signal to those of a group of processes that have it open: to nothing that got its number since."""
        found = os.fstat(self._descriptor)
        for pid in filter(str.isdigit, os.listdir(PROC)):
            try:
                if os.getpgid(int(pid)) == group and (found.st_dev, found.st_ino) in _open_files(pid):
                    os.kill(int(pid), number)
            except OSError:
                continue


def opened(name: str, lock: str) -> Lock:
    """A lock of a service; Refused, with what to do, where it is not there for this account."""
    try:
        return Lock(name, lock)
    except (FileNotFoundError, PermissionError):
        path = f"{RUN}/{name}/lock/{lock}"
        told = f"{_name(os.geteuid())} cannot write to {path}, which setup and each boot make: run fab setup"
        raise Refused(told) from None


def _open_files(pid: str) -> set[tuple[int, int]]:
    found = set()
    for descriptor in os.listdir(f"{PROC}/{pid}/fd"):
        status = os.stat(f"{PROC}/{pid}/fd/{descriptor}")
        found.add((status.st_dev, status.st_ino))
    return found


def take(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file, if nobody else has."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write(descriptor: int, line: str) -> None:
    """Put a line in place of what is in an open file."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{line}\n".encode(), 0)


def stranger_at(descriptor: int) -> str:
    """A process that holds a lock and is neither root's nor of its owner; empty when there is none.

    It cannot have opened the file, but may have inherited it open.
    """
    found = os.fstat(descriptor)
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    try:
        with open(f"{PROC}/locks", encoding="utf-8") as file:
            lines = [match for match in map(_HELD.match, file) if match]
    except OSError:
        return ""
    for pid in (match[1] for match in lines if match.groups()[1:] == (device, str(found.st_ino))):
        try:
            uid = os.stat(f"{PROC}/{pid}").st_uid
        except FileNotFoundError:
            continue
        if uid not in {0, found.st_uid}:
            return f"process {pid} of {_name(uid)}, which is neither root nor {_name(found.st_uid)}"
    return ""


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
