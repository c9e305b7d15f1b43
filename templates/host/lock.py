"""The lock of whatever changes a slot: setup never comes in the middle of a switch.

It lies in a directory of root's, and is the deploy account's file. On a host of the first layout it lies in a directory
of that account: there a process with the rights of the account holds it.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import time

from . import locks
from .accounts import Account, become, of_uid
from .folders import Folder
from .processes import name_of
from .record import FIRST, Record
from .run import Busy, Refused, Run

_PATIENCE = 15
"""Seconds beyond the wait for a lock in which the process that waits has to answer."""
_FORMER, _PART = ".activating", ".new-"
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def hold(run: Run, root: str, known: Record, seconds: float) -> None:
    """Hold the lock for as long as this program lives; Busy with the line of whoever has it.

    seconds: how long the end of a probation may take, which is waited for.
    """
    name = known.name
    if known.layout == FIRST:
        _hold_former(run, root, name, seconds)
    path = f"/run/{name}/lock/activate"
    try:
        descriptor = os.open(path, _OPEN)
    except FileNotFoundError:
        return
    except BlockingIOError as error:
        owner = name_of(os.lstat(path).st_uid)
        raise Refused(
            f"{path} cannot be opened: {owner}, whose file it is, keeps a lease on it (F_SETLEASE). End the processes "
            f"of {owner}, and run setup again"
        ) from error
    guard, probation = f"/run/{name}/lock/guard", f"/run/{name}/ctl/probation/until"
    busy = _lock(descriptor, guard, probation, run.holder("setup", "", 0), seconds)
    if busy is None:
        return
    stranger = locks.stranger_at(descriptor)
    if stranger:
        raise Refused(f"{path} is held by {stranger}: look at it on this host, and end it")
    raise Busy(busy)


def renew(run: Run, name: str, account: Account) -> None:
    """Replace the lock files of another account by new ones: whoever has a former one open holds nothing by it.

    The new lock of changes is held by this program from its first moment on.
    """
    if not os.path.isdir(f"/run/{name}/lock"):
        return
    with Folder.open(f"/run/{name}/lock") as folder:
        for lock in folder.names():
            found = folder.status(lock)
            if lock.startswith(_PART) or found is None or found.st_uid == account.uid:
                continue
            part = f"{_PART}{lock}"
            folder.remove(part)
            folder.write(part, f"{run.holder('setup', '')}\n".encode() if lock == "activate" else b"", 0o600)
            os.chown(part, account.uid, -1, dir_fd=folder.descriptor, follow_symlinks=False)
            if lock == "activate":
                # It stays open until this program ends.
                locks.take(os.open(part, _OPEN, dir_fd=folder.descriptor))
            folder.rename(part, lock)


def _hold_former(run: Run, root: str, name: str, seconds: float) -> None:
    """Let a process with the rights of the directory's owner hold the lock of the first layout, if there is one."""
    try:
        owner = of_uid(os.lstat(root).st_uid)
    except FileNotFoundError:
        return
    # Of an account that is gone nobody is at work.
    if owner is None or not os.path.lexists(f"{root}/{_FORMER}"):
        return
    alive, ours = os.pipe()
    answer, telling = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        os.close(answer)
        _hold_and_exit(
            owner, root, f"/run/{name}/ctl/probation/until", run.holder("setup", "", 0), seconds, telling, alive
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
        raise Refused(f"{owner.name} cannot lock {root}/{_FORMER}: remove that, and run setup again")
    # `ours` stays open until this program ends, and tells the other process so.


def _hold_and_exit(
    owner: Account, root: str, probation: str, line: str, seconds: float, telling: int, alive: int
) -> None:
    """Run in the child: lock, tell, and wait for the end of the parent."""
    try:
        become(owner)
        with Folder.open(root) as folder:
            descriptor = os.open(_FORMER, _OPEN, dir_fd=folder.descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is no regular file")
        busy = _lock(descriptor, probation, probation, line, seconds)
        os.write(telling, f"busy {busy}".encode() if busy is not None else b"held ")
        os.close(telling)
        if busy is None:
            os.read(alive, 1)
    finally:
        os._exit(0)


def _lock(descriptor: int, guard: str, probation: str, line: str, seconds: float) -> str | None:
    """Take the lock and write our line into it; the line of whoever has it, otherwise."""
    deadline = time.monotonic() + seconds
    while not locks.take(descriptor):
        if time.monotonic() > deadline or not _on_probation(guard, probation):
            text = os.pread(descriptor, 4000, 0).decode("utf-8", "replace")
            return text.rstrip("\n").rpartition("\n")[2]
        time.sleep(0.05)
    locks.write(descriptor, line)
    return None


def _on_probation(guard: str, probation: str) -> bool:
    """Whether the host itself is at work on the end of a probation: its file has a text, and its lock is held."""
    try:
        if os.lstat(probation).st_size == 0:
            return False
        descriptor = os.open(guard, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return not locks.take(descriptor)
    finally:
        os.close(descriptor)
