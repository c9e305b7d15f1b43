"""Give everything that the former deploy account owned to the new one.

The former account may still be active, and replace by a link anything that it can write. So setup uses no name twice:
it opens a file without following a link, checks it, and gives exactly that file away. Directories and links change
their owner; the new account gets a copy of each file, since the former one may have it open (`file_copies`).
"""

from __future__ import annotations

import os
import stat

from . import file_copies, kept_copies, mounts, processes, programs, release, setup_lock, venv
from .accounts import WEB_ACCOUNTS, Account, find
from .file_copies import Copies
from .folders import DEEPEST, LARGEST, Folder
from .processes import name_of
from .record import Record
from .run import Refused, Run
from .slot_names import SLOTS

_SOCKETS, _MOVED = ("blue.sock", "green.sock"), ("ctl", "try")
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH | stat.S_ISUID | stat.S_ISGID
_ANYTHING = os.O_PATH | os.O_NOFOLLOW
_REMOVE_SECONDS = 600
_LOOKED_AT = ("slots", "slots/blue", "slots/green", "releases", "venvs")
"""Directories in which the next steps, or a slot, would follow a link."""


def formers(record: Record, root: str, account: Account) -> set[int]:
    """Return the uids of the accounts that deployed to `root` before this one; never its own.

    Root cannot see who owns a directory at which an account has mounted a file system: then that account counts.
    """
    recorded = find(record.account) if record.account else None
    known = {recorded.uid} if recorded else set[int]()
    try:
        owners = {os.lstat(root).st_uid}
    except FileNotFoundError:
        return set()
    except PermissionError:
        owners = {mount.uid for mount in mounts.found(root) if mount.path == root}
    return (owners | known) - {account.uid}


def end_all(run: Run, record: Record, root: str, account: Account) -> set[int]:
    """End the processes of all former accounts, and take away what they have mounted; return their uids."""
    places, former = (root, f"/run/{record.name}"), set[int]()
    # Processes that wait for such a file system would not end.
    mounts.detach(run, *places)
    # Twice: what is mounted there may hide whose directory it is.
    for _ in range(2):
        more = formers(record, root, account) - former
        end_formers(run, record, more)
        former |= more
        mounts.require_none(run, *places)
    return former


def end_formers(run: Run, record: Record, former: set[int]) -> None:
    """End every process of a former account: it could hold a lock, or have a file open."""
    if not former:
        return
    # systemd restarts a guard that is killed: stop its unit first.
    programs.systemctl("stop", *(f"{record.name}-probation@{slot}.service" for slot in SLOTS))
    for uid in former - {0}:
        mounts.detach_all_of(run, uid)
        processes.end(run, uid)


def hand_over(run: Run, record: Record, root: str, former: set[int], account: Account) -> None:
    """Give everything below `root` to the account, if there is a former one."""
    if not former:
        return
    names = " and ".join(sorted(map(name_of, former)))
    run.say("account", f"{root} goes from {names} to {account.name}")
    service = find(record.name)
    readers = {found.gid for found in (service, *map(find, WEB_ACCOUNTS)) if found}
    giving = _Giving(former, account, readers)
    with Folder.open(root) as folder:
        file_copies.remove_left(folder)
        sizes: dict[int, int] = {}
        _look(folder, former | {account.uid}, f"neither {names}'s nor {account.name}'s", sizes)
        with Copies(run, folder, sizes) as made:
            _forget_program(root)
            giving.copy(folder, made)
            made.flush()
            run.point("setup.copied")
            giving.give(folder, made)
            _distrust(folder)
            run.point("setup.given")
        _refuse_planted(folder)
    # Forget it again: until the directory changed its owner, the former account could put a program there.
    _forget_program(root)


def _distrust(folder: Folder) -> None:
    """Remove the list of each release and each venv: the former account could edit a file together with its line.

    So the next deploy sends and builds all of them again, and no rollback activates one.
    """
    for place, name in (("releases", "MANIFEST"), ("venvs", venv.LIST)):
        if folder.status(place) is None:
            continue
        with folder.below(place) as above:
            for entry in above.names():
                status = above.status(entry)
                if status and stat.S_ISDIR(status.st_mode):
                    with above.below(entry) as inner:
                        _remove_list(inner, name)


def _remove_list(folder: Folder, name: str) -> None:
    status = folder.status(name)
    # A directory of that name is never read as a list.
    if status and not stat.S_ISDIR(status.st_mode):
        folder.remove(name)


def _forget_program(root: str) -> None:
    """Remove the kept copies of the program, and any step: the former account could have written them."""
    if not programs.remove_tree(f"{root}/{kept_copies.FOLDER}"):
        raise Refused(f"{root}/{kept_copies.FOLDER}, of the former account, cannot be removed")


def take_run_directory(run: Run, name: str, account: Account) -> None:
    """Take from the former account what a run uses in /run: change the owner of each socket, move the rest away.

    tmpfiles then makes the rest anew, and `remove_moved` removes what was moved.
    """
    if not os.path.isdir(f"/run/{name}"):
        return
    with Folder.open(f"/run/{name}") as folder:
        for socket in _SOCKETS:
            status = folder.status(socket)
            if status and stat.S_ISSOCK(status.st_mode):
                os.chown(socket, account.uid, -1, dir_fd=folder.descriptor, follow_symlinks=False)
        for directory in _MOVED:
            status = folder.status(directory)
            if status and status.st_uid != account.uid:
                _remove_former(name, directory)
                folder.rename(directory, f".former-{directory}")
    setup_lock.renew(run, name, account)


def remove_moved(name: str) -> None:
    """Remove the directories in /run that `take_run_directory` moved away."""
    for directory in _MOVED:
        _remove_former(name, directory)


def _remove_former(name: str, directory: str) -> None:
    path = f"/run/{name}/.former-{directory}"
    # rm handles any depth.
    if os.path.lexists(path) and not programs.run("rm", "-rf", "--", path, seconds=_REMOVE_SECONDS):
        raise Refused(f"{path} cannot be removed: remove it (rm -rf), and run setup again")


def _look(folder: Folder, allowed: set[int], whose: str, sizes: dict[int, int], depth: int = 0) -> None:
    """Raise Refused for a file of a third account, such as a hard link to one of root's. Changes nothing.

    sizes: filled by inode with the bytes that a copy of each file takes on the disk.
    """
    if depth > DEEPEST:
        raise Refused(f"{folder.path} is nested too deep to be a release: remove it (rm -rf), and run setup again")
    device = os.fstat(folder.descriptor).st_dev
    for name in folder.names():
        status, path = folder.status(name), f"{folder.path}/{name}"
        if status is None:
            continue
        if status.st_uid not in allowed:
            raise Refused(f"{path} is {whose}: remove it, and run setup again")
        if status.st_dev != device:
            raise Refused(f"{path} is on another file system: unmount it, and run setup again")
        if stat.S_ISDIR(status.st_mode):
            with folder.below(name) as inner:
                _look(inner, allowed, whose, sizes, depth + 1)
        elif stat.S_ISREG(status.st_mode) and status.st_size > LARGEST:
            raise Refused(
                f"{path} has {status.st_size >> 30} GiB, as no file of ours has: remove it, and run setup again"
            )
        elif stat.S_ISREG(status.st_mode):
            sizes[status.st_ino] = max(status.st_size, 512 * status.st_blocks)
            file_copies.end_lease(folder, name)
        elif not stat.S_ISLNK(status.st_mode):
            raise Refused(f"{path} is neither a file nor a directory nor a link: remove it, and run setup again")


class _Giving:
    """One handover, from former accounts to the new one. readers: gids of the service and nginx, which still read."""

    def __init__(self, former: set[int], account: Account, readers: set[int]) -> None:
        self._former, self._account, self._readers = former, account, readers

    def copy(self, folder: Folder, made: Copies) -> None:
        """Copy every file; change no owner yet."""
        for name in folder.names():
            status = folder.status(name)
            if status is None or made.is_folder(status):
                continue
            if stat.S_ISDIR(status.st_mode):
                with folder.below(name) as inner:
                    self.copy(inner, made)
            elif stat.S_ISREG(status.st_mode):
                made.make(folder, name, self._set_rights)

    def give(self, folder: Folder, made: Copies) -> None:
        """Give a directory, then its entries: once it is given, the former owner can add nothing there."""
        self._own(folder.descriptor, os.fstat(folder.descriptor))
        device = os.fstat(folder.descriptor).st_dev
        for name in folder.names():
            try:
                descriptor = os.open(name, _ANYTHING, dir_fd=folder.descriptor)
            except FileNotFoundError:
                continue
            try:
                status = os.fstat(descriptor)
                if status.st_dev != device:
                    raise Refused(f"{folder.path}/{name} is on another file system: unmount it, and run setup again")
                if made.is_folder(status):
                    continue
                if stat.S_ISDIR(status.st_mode):
                    inner = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
                    with Folder(inner, f"{folder.path}/{name}") as below:
                        self.give(below, made)
                elif stat.S_ISREG(status.st_mode):
                    made.put(folder, name, status.st_ino)
                else:
                    self._own(descriptor, status)
            finally:
                os.close(descriptor)

    def _own(self, descriptor: int, status: os.stat_result) -> None:
        """Change the owner of exactly the open file: its name may mean another file by now."""
        if status.st_uid in self._former:
            self._change(descriptor, status)
        if stat.S_ISDIR(status.st_mode):
            self._restrict(descriptor, status)

    def _set_rights(self, copy: int, status: os.stat_result) -> None:
        """Set the owner and the mode of a copy, from the status of its file."""
        if status.st_uid not in self._former | {self._account.uid}:
            raise Refused("a file has changed its owner while it was given away: run setup again")
        self._change(copy, status)
        self._restrict(copy, status)

    def _change(self, descriptor: int, status: os.stat_result) -> None:
        gid = status.st_gid if status.st_gid in self._readers else self._account.gid
        os.chown(f"/proc/self/fd/{descriptor}", self._account.uid, gid)

    def _restrict(self, descriptor: int, status: os.stat_result) -> None:
        """Remove the mode bits and the access control lists that let the former account write."""
        file_copies.strip(descriptor)
        os.chmod(f"/proc/self/fd/{descriptor}", stat.S_IMODE(status.st_mode) & ~_OTHERS_WRITE)


def _refuse_planted(folder: Folder, prefix: str = "") -> None:
    """Raise Refused for a link that is not ours: the next steps of the new account would follow it."""
    for name in folder.names():
        path, target, status = f"{prefix}{name}", folder.link(name), folder.status(name)
        if target and not (path in release.LINKS and release.LINKS[path].fullmatch(target)):
            raise Refused(f"{folder.path}/{name} is a symbolic link, and none of ours: remove it, and run setup again")
        if path in _LOOKED_AT and status and stat.S_ISDIR(status.st_mode):
            with folder.below(name) as inner:
                _refuse_planted(inner, f"{path}/")
