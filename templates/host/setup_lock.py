"""Root's side of `lock/activate`, which every change of a slot holds: setup and changes of secrets wait for it.

The directory is root's, the file the deploy account's. On a host of the first layout the directory is the account's,
too: there a process with the account's rights holds the lock.
"""

from __future__ import annotations

import os
import select
import stat
import time

from . import activity, locks
from .accounts import Account, become, killed, leave_open, of_uid
from .folders import Folder, open_leased
from .processes import name_of
from .record import FIRST, Record
from .run import Busy, Refused, Run

_CHILD_MARGIN = 15
"""Seconds, beyond the wait for the lock, in which the child must answer."""
_FORMER, _PART = ".activating", ".new-"
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def hold(run: Run, root: str, known: Record, seconds: float, *, verb: str, patient: bool = False) -> None:
    """Hold the lock until this program ends; Busy, with the holder's line, if another process has it.

    seconds: how long to wait for a guard that has the lock: it commits, undoes or drains (in a probation the lock is
    free); patient: wait for any run, too.
    verb: what the holder's line says is at work.
    """
    name, line = known.name, run.holder(verb, "", 0)
    if known.layout == FIRST:
        _hold_former(root, name, line, seconds)
    path = f"/run/{name}/lock/activate"
    try:
        descriptor = open_leased(path, _OPEN, run.heed)
    except FileNotFoundError:
        return
    except BlockingIOError as error:
        owner = name_of(os.lstat(path).st_uid)
        raise Refused(
            f"{path} cannot be opened: {owner}, whose file it is, keeps a lease on it (F_SETLEASE). End the processes "
            f"of {owner}, and run this again"
        ) from error
    guard, probation = f"/run/{name}/lock/guard", f"/run/{name}/ctl/probation/until"
    if not _lock(descriptor, guard, probation, line, seconds, patient=patient):
        raise locks.refusal(path, descriptor)


def renew(run: Run, name: str, account: Account) -> None:
    """Replace the lock files of another account: a process that has a former file open holds no lock by it.

    This program holds the new `activate` before the file gets that name.
    """
    if not os.path.isdir(f"/run/{name}/lock"):
        return
    with Folder.open(f"/run/{name}/lock") as folder:
        for lock in folder.names():
            status = folder.status(lock)
            if lock.startswith(_PART) or status is None or status.st_uid == account.uid:
                continue
            part = f"{_PART}{lock}"
            folder.remove(part)
            folder.write(part, f"{run.holder('setup', '')}\n".encode() if lock == "activate" else b"", 0o600)
            os.chown(part, account.uid, -1, dir_fd=folder.descriptor, follow_symlinks=False)
            if lock == "activate":
                # Left open: the lock lasts until this program ends.
                locks.take(os.open(part, _OPEN, dir_fd=folder.descriptor))
            folder.rename(part, lock)


def _hold_former(root: str, name: str, line: str, seconds: float) -> None:
    """Hold the lock of the first layout, if it exists, in a process with the rights of the directory's owner."""
    try:
        owner = of_uid(os.lstat(root).st_uid)
    except FileNotFoundError:
        return
    # An account that is gone runs nothing.
    if owner is None or not os.path.lexists(f"{root}/{_FORMER}"):
        return
    alive, _ours = os.pipe()
    answer, telling = os.pipe()
    child = os.fork()
    if child == 0:
        _hold_and_exit(owner, root, f"/run/{name}/ctl/probation/until", line, seconds, telling, alive)
    os.close(alive)
    os.close(telling)
    with os.fdopen(answer, "rb") as file:
        # The account may have mounted anything at its directory, so the child may hang, and even outlive SIGKILL.
        ready, _, _ = select.select([file], [], [], seconds + _CHILD_MARGIN)
        if not ready:
            killed(child)
        said = os.read(answer, 8192) if ready else b""
        word, _, holder = said.decode("utf-8", "replace").partition(" ")
    if word == "busy":
        raise Busy(holder)
    if word != "held":
        raise Refused(f"{owner.name} cannot lock {root}/{_FORMER}: remove that, and run this again")
    # `_ours` stays open until this program ends, which tells the child to exit.


def _hold_and_exit(
    owner: Account, root: str, probation: str, line: str, seconds: float, telling: int, alive: int
) -> None:
    """Take the lock, report that, and hold it until the parent ends. Runs in the child."""
    try:
        # The account can stop this process, which then outlives us.
        leave_open(telling, alive)
        become(owner)
        with Folder.open(root) as folder:
            descriptor = os.open(_FORMER, _OPEN, dir_fd=folder.descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is no regular file")
        held = _lock(descriptor, probation, probation, line, seconds)
        os.write(telling, b"held " if held else f"busy {locks.read(descriptor)}".encode())
        os.close(telling)
        if held:
            os.read(alive, 1)
    finally:
        os._exit(0)


def _lock(descriptor: int, guard: str, probation: str, line: str, seconds: float, *, patient: bool = False) -> bool:
    """Take the lock and write our line into it; return False if another process still has it.

    Waits for a guard that has the lock; with `patient`, for any run.
    """
    deadline = time.monotonic() + seconds
    while True:
        # Ask for the guard before the lock: if it ends just after this try, the lock is free for the next one.
        waits = time.monotonic() <= deadline and (patient or activity.guarded(guard, probation))
        if locks.take(descriptor):
            break
        if not waits:
            return False
        time.sleep(0.05)
    locks.write(descriptor, line)
    return True
