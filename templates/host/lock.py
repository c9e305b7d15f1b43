"""The lock of whatever changes a slot: setup never comes in the middle of a switch."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import stat
import time

from .accounts import Account, become, of_uid
from .folders import Folder
from .run import Busy, Refused, Run

_PATIENCE = 15
"""Seconds beyond the wait for a lock in which the process that waits has to answer."""
_OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK


def hold(run: Run, root: str, name: str, seconds: float) -> None:
    """Hold the lock for as long as this program lives; Busy with the line of whoever has it.

    The lock lies in a directory of the deploy account, so a process with the rights of that account holds it.
    seconds: how long the end of a probation may take, which is waited for.
    """
    try:
        owner = of_uid(os.lstat(root).st_uid)
    except FileNotFoundError:
        return
    # Of an account that is gone nobody is at work.
    if owner is None:
        return
    alive, ours = os.pipe()
    answer, telling = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        os.close(answer)
        _hold_and_exit(
            owner, root, f"/run/{name}/ctl/probation/until", run.holder("setup", ""), seconds, telling, alive
        )
    os.close(alive)
    os.close(telling)
    with os.fdopen(answer, "rb") as file:
        # The directory is the account's, and so may be what it is mounted from.
        ready, _, _ = select.select([file], [], [], seconds + _PATIENCE)
        if not ready:
            os.kill(child, signal.SIGKILL)
        word, _, rest = file.read(8192).decode("utf-8", "replace").partition(" ")
    if word == "busy":
        raise Busy(rest)
    if word != "held":
        raise Refused(f"{owner.name} cannot lock {root}/.activating: remove that, and run setup again")
    # `ours` stays open until this program ends, and tells the other process so.


def _hold_and_exit(
    owner: Account, root: str, probation: str, line: str, seconds: float, telling: int, alive: int
) -> None:
    """Run in the child: lock, tell, and wait for the end of the parent."""
    try:
        become(owner)
        busy = _lock(root, probation, line, seconds)
        os.write(telling, f"busy {busy}".encode() if busy is not None else b"held ")
        os.close(telling)
        if busy is None:
            os.read(alive, 1)
    finally:
        os._exit(0)


def _lock(root: str, probation: str, line: str, seconds: float) -> str | None:
    """Take the lock and write our line into it; the line of whoever has it, otherwise."""
    with Folder.open(root) as folder:
        descriptor = os.open(".activating", _OPEN, 0o600, dir_fd=folder.descriptor)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(0, "it is no regular file")
    deadline = time.monotonic() + seconds
    while not _try(descriptor):
        if time.monotonic() > deadline or not _on_probation(probation):
            text = os.pread(descriptor, 4000, 0).decode("utf-8", "replace")
            return text.rstrip("\n").rpartition("\n")[2]
        time.sleep(0.05)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{line}\n".encode(), 0)
    return None


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _on_probation(path: str) -> bool:
    """Whether the host itself is at work on the end of a probation: its file has a text, and is locked."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.fstat(descriptor).st_size > 0 and not _try(descriptor)
    finally:
        os.close(descriptor)
