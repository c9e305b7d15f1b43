"""Locks between runs: files in /run/NAME/lock, which root names and only the deploy account can open."""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

from .run import Busy, Refused, Run

_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_HELD = re.compile(r"\d+: FLOCK +ADVISORY +WRITE +(\d+) ([0-9a-f]+:[0-9a-f]+):(\d+) ")
_LAST = 4000
"""Bytes to read of a lock file."""
_LIST_SECONDS = 1
"""Seconds to read /proc/locks: any account can have a million locks, which the kernel takes ten minutes to list."""
RUN, PROC = "/run", "/proc"


class Lock:
    """A lock of one service. No child process inherits it. OSError if setup or boot has not made the file."""

    def __init__(self, name: str, lock: str) -> None:
        self.path = f"{RUN}/{name}/lock/{lock}"
        self._descriptor = os.open(self.path, _OPEN)

    def close(self) -> None:
        """Release the lock and close its file."""
        os.close(self._descriptor)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, *, shared: bool = False) -> bool:
        """Take the lock if it is free; return whether we hold it."""
        return take(self._descriptor, shared=shared)

    def free(self) -> None:
        """Release the lock."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def take_within(self, run: Run, seconds: float, *, shared: bool = False, aloud: bool = False) -> bool:
        """Take the lock as soon as it is free, within `seconds`; return whether we hold it.

        aloud: report once a second; if the controller is gone, the report ends the wait
        """
        began, reports = time.monotonic(), 1
        while not self.take(shared=shared):
            waited = time.monotonic() - began
            if waited >= seconds:
                return False
            if aloud and waited >= reports:
                run.report("pass", "0")
                reports += 1
            run.heed()
            # A guard waits for its run, on a busy host for many seconds: it need not look so often then.
            time.sleep(0.02 if waited < 1 else 0.1)
        return True

    @property
    def held(self) -> bool:
        """True if another process holds the lock."""
        if not self.take():
            return True
        self.free()
        return False

    def read(self) -> str:
        """Return the line that the present or the last holder wrote."""
        return read(self._descriptor)

    def write(self, line: str) -> None:
        """Write the holder's line."""
        write(self._descriptor, line)

    def refusal(self) -> Busy | Refused:
        """Return the error to raise when another process holds it."""
        return refusal(self.path, self._descriptor)

    @property
    def foreign_holder(self) -> str:
        """A holder that is a process of neither root nor the file's owner, in words; empty if there is none."""
        return foreign_holder_of(self._descriptor)

    def end_holders(self, number: signal.Signals, group: int) -> None:
        """Send a signal to each process of a group that has the file open, so a reused PID is never hit."""
        status = os.fstat(self._descriptor)
        for pid in filter(str.isdigit, os.listdir(PROC)):
            try:
                if os.getpgid(int(pid)) == group and (status.st_dev, status.st_ino) in _open_files(pid):
                    os.kill(int(pid), number)
            except OSError:
                continue


def opened(name: str, lock: str) -> Lock:
    """Open a lock of a service; Refused, with what to do, if this account cannot."""
    try:
        return Lock(name, lock)
    except (FileNotFoundError, PermissionError):
        path = f"{RUN}/{name}/lock/{lock}"
        message = f"{_name(os.geteuid())} cannot write to {path}, which setup and each boot make: run fab setup"
        raise Refused(message) from None


def _open_files(pid: str) -> set[tuple[int, int]]:
    files = set()
    for descriptor in os.listdir(f"{PROC}/{pid}/fd"):
        status = os.stat(f"{PROC}/{pid}/fd/{descriptor}")
        files.add((status.st_dev, status.st_ino))
    return files


def take(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file if it is free; return whether we hold it."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read(descriptor: int) -> str:
    """Return the line that the present or the last holder wrote into an open file."""
    return os.pread(descriptor, _LAST, 0).decode("utf-8", "replace").rstrip("\n").rpartition("\n")[2]


def refusal(path: str, descriptor: int) -> Busy | Refused:
    """Return the error to raise when another process holds the lock of an open file."""
    holder = foreign_holder_of(descriptor)
    if holder:
        return Refused(f"{path} is held by {holder}: look at that process on this host, and end it")
    return Busy(read(descriptor))


def write(descriptor: int, line: str) -> None:
    """Replace the content of an open file by one line."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{line}\n".encode(), 0)


def listed() -> Iterator[str]:
    """Yield the lines of /proc/locks, as far as they come in _LIST_SECONDS."""
    end = time.monotonic() + _LIST_SECONDS
    with suppress(OSError), open(f"{PROC}/locks", encoding="utf-8", errors="replace") as file:
        for line in file:
            yield line.rstrip("\n")
            if time.monotonic() > end:
                return


def foreign_holder_of(descriptor: int) -> str:
    """Return, in words, a process that holds a lock and is neither root's nor the file owner's; empty if there is none.

    Such a process cannot have opened the file, but may have inherited it open.
    """
    status = os.fstat(descriptor)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    for match in filter(None, map(_HELD.match, listed())):
        pid = match[1]
        if match.groups()[1:] != (device, str(status.st_ino)):
            continue
        try:
            uid = os.stat(f"{PROC}/{pid}").st_uid
        except FileNotFoundError:
            continue
        if uid not in {0, status.st_uid}:
            return f"process {pid} of {_name(uid)}, which is neither root nor {_name(status.st_uid)}"
    return ""


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
