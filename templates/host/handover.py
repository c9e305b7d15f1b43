"""Another account deploys from now on: what the former one owned is given to it.

The former account may still be at work, and put a link in the place of anything that it can write. So no name is used
twice: a file is opened without following a link, looked at, and exactly that file changes its owner.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import time
from collections import Counter
from contextlib import suppress

from . import programs
from .accounts import Account, find, of_uid
from .folders import DEEPEST, Folder
from .record import Record
from .run import Refused, Run

SECONDS = 10
"""How long processes may take to end after SIGKILL."""
_SOCKETS, _PLACES = ("blue.sock", "green.sock"), ("ctl", "try")
_LISTS = ("system.posix_acl_access", "system.posix_acl_default")
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH | stat.S_ISUID | stat.S_ISGID
_ANYTHING = os.O_PATH | os.O_NOFOLLOW

Links = Counter[tuple[int, int]]
"""How often a file lies below the directory, by device and inode."""


def formers(record: Record, root: str, account: Account) -> set[int]:
    """The accounts, by number, that had `root` before this one; none where it is the account's already."""
    try:
        owner = os.lstat(root).st_uid
    except FileNotFoundError:
        return set()
    recorded = find(record.account) if record.account else None
    return {owner, recorded.uid if recorded else owner} - {account.uid}


def end_formers(run: Run, record: Record, former: set[int]) -> None:
    """End whatever runs as a former account: it could hold a lock, or a file open."""
    if not former:
        return
    # Its watch would begin again as often as it is ended.
    programs.systemctl("stop", *(f"{record.name}-probation@{slot}.service" for slot in ("blue", "green")))
    for uid in former - {0}:
        _end_processes(run, uid)


def hand_over(run: Run, root: str, former: set[int], account: Account) -> None:
    """Give everything below `root` to the account; nothing to do without a former one."""
    if not former:
        return
    names = " and ".join(sorted(_name(uid) for uid in former))
    run.say("account", f"{root} goes from {names} to {account.name}")
    with Folder.open(root) as folder:
        links = _look(folder, former | {account.uid}, f"neither {names}'s nor {account.name}'s")
        _give(folder, former, account, links)
        _refuse_planted(folder)


def take_places(name: str, account: Account) -> None:
    """Take from the former account what a run asks for in /run: a socket that is up changes its owner, the rest is new.

    What is moved away here is made anew by tmpfiles, and removed by `forget_places`.
    """
    if not os.path.isdir(f"/run/{name}"):
        return
    with Folder.open(f"/run/{name}") as folder:
        for socket in _SOCKETS:
            found = folder.status(socket)
            if found and stat.S_ISSOCK(found.st_mode):
                os.chown(socket, account.uid, -1, dir_fd=folder.descriptor, follow_symlinks=False)
        for place in _PLACES:
            found = folder.status(place)
            if found and found.st_uid != account.uid:
                _remove_former(name, place)
                folder.rename(place, f".former-{place}")


def forget_places(name: str) -> None:
    """Remove what the former account had in /run."""
    for place in _PLACES:
        _remove_former(name, place)


def _remove_former(name: str, place: str) -> None:
    shutil.rmtree(f"/run/{name}/.former-{place}", ignore_errors=True)


def take_groups(record: Record, account: Account) -> None:
    """The former account reads the host's journals no longer."""
    if record.account not in (None, "root", account.name) and find(record.account or "") is not None:
        programs.ask("gpasswd", "--delete", record.account or "", "systemd-journal")


def _name(uid: int) -> str:
    found = of_uid(uid)
    return found.name if found else str(uid)


def _end_processes(run: Run, uid: int) -> None:
    if any(uid in _uids(pid) for pid in _ancestors()):
        raise Refused(
            f"{_name(uid)} would give its own rights away and be ended by it: run this as root or as the new account"
        )
    deadline = time.monotonic() + SECONDS
    while pids := [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if uid in _uids(pid)]:
        if time.monotonic() > deadline:
            raise Refused(f"processes of {_name(uid)} do not end, or begin again: lock that account (usermod -L -e 1)")
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        run.heed()
        time.sleep(0.05)


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


def _look(folder: Folder, allowed: set[int], whose: str, depth: int = 0) -> Links:
    """Before anything changes its owner: Refused for a file of somebody else, such as a hard link to one of root's."""
    if depth > DEEPEST:
        raise Refused(f"{folder.path} is nested too deep to be a release: remove it (rm -rf), and run setup again")
    found: Links = Counter()
    for name in folder.names():
        status = folder.status(name)
        if status is None:
            continue
        if status.st_uid not in allowed:
            raise Refused(f"{folder.path}/{name} is {whose}: remove it, and run setup again")
        if stat.S_ISDIR(status.st_mode):
            with folder.below(name) as inner:
                found.update(_look(inner, allowed, whose, depth + 1))
        else:
            found[status.st_dev, status.st_ino] += 1
    return found


def _give(folder: Folder, former: set[int], account: Account, links: Links) -> None:
    """A directory is given before what is in it: from then on the former owner puts nothing more there."""
    _change_owner(folder.descriptor, former, account)
    device = os.fstat(folder.descriptor).st_dev
    for name in folder.names():
        path = f"{folder.path}/{name}"
        try:
            descriptor = os.open(name, _ANYTHING, dir_fd=folder.descriptor)
        except FileNotFoundError:
            continue
        try:
            found = os.fstat(descriptor)
            if found.st_dev != device:
                raise Refused(f"{path} is on another file system: unmount it, and run setup again")
            if stat.S_ISDIR(found.st_mode):
                with Folder(os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor), path) as inner:
                    _give(inner, former, account, links)
            elif found.st_nlink != links[found.st_dev, found.st_ino]:
                raise Refused(f"{path} has a second name elsewhere: remove one of them, and run setup again")
            else:
                _change_owner(descriptor, former, account)
        finally:
            os.close(descriptor)


def _change_owner(descriptor: int, former: set[int], account: Account) -> None:
    """Of exactly the file that is open: the name by which it was found may mean another one by now.

    With the owner goes whatever else lets the former account write: mode bits and access control lists.
    """
    place = f"/proc/self/fd/{descriptor}"
    found = os.fstat(descriptor)
    if found.st_uid in former:
        os.chown(place, account.uid, account.gid)
    if stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode):
        for name in _LISTS:
            with suppress(OSError):
                os.removexattr(place, name)
        os.chmod(place, stat.S_IMODE(found.st_mode) & ~_OTHERS_WRITE)


def _refuse_planted(folder: Folder) -> None:
    """Refused for a link where none of ours is: what runs next as the new account would follow it."""
    for name in folder.names():
        if name != "current" and folder.link(name):
            raise Refused(f"{folder.path}/{name} is a symbolic link, and none of ours: remove it, and run setup again")
    if folder.path.endswith("/slots") or folder.status("slots") is None:
        return
    with folder.below("slots") as slots:
        _refuse_planted(slots)
