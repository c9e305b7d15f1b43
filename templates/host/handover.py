"""Another account deploys from now on: what the former one owned is given to it.

The former account may still be at work, and put a link in the place of anything that it can write. So no name is used
twice: a file is opened without following a link, looked at, and exactly that file changes hands. Directories and links
change their owner; of a file the new account gets a copy, since the former one may have it open (`copies`).
"""

from __future__ import annotations

import os
import stat

from . import file_copies, kept_copies, processes, programs, release, setup_lock, venv
from .accounts import Account, find
from .file_copies import Copies
from .folders import DEEPEST, Folder
from .processes import name_of
from .record import Record
from .run import Refused, Run

_SOCKETS, _PLACES = ("blue.sock", "green.sock"), ("ctl", "try")
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH | stat.S_ISUID | stat.S_ISGID
_ANYTHING = os.O_PATH | os.O_NOFOLLOW
_REMOVE_SECONDS = 600
_LOOKED_AT = ("slots", "slots/blue", "slots/green")
"""Directories in which a link would be followed by what runs next."""


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
        processes.end(run, uid)


def hand_over(run: Run, record: Record, root: str, former: set[int], account: Account) -> None:
    """Give everything below `root` to the account; nothing to do without a former one."""
    if not former:
        return
    names = " and ".join(sorted(map(name_of, former)))
    run.say("account", f"{root} goes from {names} to {account.name}")
    service = find(record.name)
    giving = _Giving(former, account, service.gid if service else account.gid)
    _forget_program(root)
    with Folder.open(root) as folder:
        file_copies.forget(folder)
        sizes: dict[int, int] = {}
        _look(folder, former | {account.uid}, f"neither {names}'s nor {account.name}'s", sizes)
        with Copies(run, folder, sizes) as made:
            giving.copy(folder, made)
            made.keep()
            run.point("setup.copied")
            giving.give(folder, made)
            _distrust(folder)
            run.point("setup.given")
        _refuse_planted(folder)
    # Once more: until its directory was given away the former account could make it anew.
    _forget_program(root)


def _distrust(folder: Folder) -> None:
    """Take its list from each release and each venv: the former account could edit a file together with its line.

    So the next deploy sends and builds all of them anew, and no rollback leads to one.
    """
    for place, name in (("releases", "MANIFEST"), ("venvs", venv.LIST)):
        if folder.status(place) is None:
            continue
        with folder.below(place) as above:
            for one in above.names():
                found = above.status(one)
                if found and stat.S_ISDIR(found.st_mode):
                    with above.below(one) as inner:
                        _take(inner, name)


def _take(folder: Folder, name: str) -> None:
    found = folder.status(name)
    # In a directory of that name nobody reads anything.
    if found and not stat.S_ISDIR(found.st_mode):
        folder.remove(name)


def _forget_program(root: str) -> None:
    """Nobody runs a copy of the program that another account has written, nor a step that it has left."""
    if not programs.remove_tree(f"{root}/{kept_copies.PLACE}"):
        raise Refused(f"{root}/{kept_copies.PLACE}, of the former account, cannot be removed")


def take_places(run: Run, name: str, account: Account) -> None:
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
    setup_lock.renew(run, name, account)


def forget_places(name: str) -> None:
    """Remove what the former account had in /run."""
    for place in _PLACES:
        _remove_former(name, place)


def _remove_former(name: str, place: str) -> None:
    path = f"/run/{name}/.former-{place}"
    # However deep it is nested.
    if os.path.lexists(path) and not programs.run("rm", "-rf", "--", path, seconds=_REMOVE_SECONDS):
        raise Refused(f"{path} cannot be removed: remove it (rm -rf), and run setup again")


def _look(folder: Folder, allowed: set[int], whose: str, sizes: dict[int, int], depth: int = 0) -> None:
    """Before anything changes hands: Refused for a file of somebody else, such as a hard link to one of root's.

    sizes: is told what each file takes on the disk when it is copied, by inode.
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
        elif stat.S_ISREG(status.st_mode):
            sizes[status.st_ino] = max(status.st_size, 512 * status.st_blocks)
        elif not stat.S_ISLNK(status.st_mode):
            raise Refused(f"{path} is neither a file nor a directory nor a link: remove it, and run setup again")


class _Giving:
    """What changes hands: from whom, to whom. readers: the group of the service, which goes on reading."""

    def __init__(self, former: set[int], account: Account, readers: int) -> None:
        self._former, self._account, self._readers = former, account, readers

    def copy(self, folder: Folder, made: Copies) -> None:
        """Copy every file; nothing changes hands yet."""
        for name in folder.names():
            status = folder.status(name)
            if status is None or made.holds(status):
                continue
            if stat.S_ISDIR(status.st_mode):
                with folder.below(name) as inner:
                    self.copy(inner, made)
            elif stat.S_ISREG(status.st_mode):
                made.make(folder, name, self._dress)

    def give(self, folder: Folder, made: Copies) -> None:
        """A directory is given before what is in it: from then on the former owner puts nothing more there."""
        self._own(folder.descriptor, os.fstat(folder.descriptor))
        device = os.fstat(folder.descriptor).st_dev
        for name in folder.names():
            try:
                descriptor = os.open(name, _ANYTHING, dir_fd=folder.descriptor)
            except FileNotFoundError:
                continue
            try:
                found = os.fstat(descriptor)
                if found.st_dev != device:
                    raise Refused(f"{folder.path}/{name} is on another file system: unmount it, and run setup again")
                if made.holds(found):
                    continue
                if stat.S_ISDIR(found.st_mode):
                    inner = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
                    with Folder(inner, f"{folder.path}/{name}") as below:
                        self.give(below, made)
                elif stat.S_ISREG(found.st_mode):
                    made.put(folder, name, found.st_ino)
                else:
                    self._own(descriptor, found)
            finally:
                os.close(descriptor)

    def _own(self, descriptor: int, found: os.stat_result) -> None:
        """Of exactly the file that is open: the name by which it was found may mean another one by now."""
        if found.st_uid in self._former:
            self._change(descriptor, found)
        if stat.S_ISDIR(found.st_mode):
            self._close(descriptor, found)

    def _dress(self, copy: int, found: os.stat_result) -> None:
        """Give a copy the owner and the mode that follow from those of its file."""
        if found.st_uid not in self._former | {self._account.uid}:
            raise Refused("a file has changed its owner while it was given away: run setup again")
        self._change(copy, found)
        self._close(copy, found)

    def _change(self, descriptor: int, found: os.stat_result) -> None:
        gid = self._readers if found.st_gid == self._readers else self._account.gid
        os.chown(f"/proc/self/fd/{descriptor}", self._account.uid, gid)

    def _close(self, descriptor: int, found: os.stat_result) -> None:
        """With the owner goes whatever else lets the former account write: mode bits and access control lists."""
        file_copies.strip(descriptor)
        os.chmod(f"/proc/self/fd/{descriptor}", stat.S_IMODE(found.st_mode) & ~_OTHERS_WRITE)


def _refuse_planted(folder: Folder, prefix: str = "") -> None:
    """Refused for a link where none of ours is: what runs next as the new account would follow it."""
    for name in folder.names():
        path, target, found = f"{prefix}{name}", folder.link(name), folder.status(name)
        if target and not (path in release.LINKS and release.LINKS[path].fullmatch(target)):
            raise Refused(f"{folder.path}/{name} is a symbolic link, and none of ours: remove it, and run setup again")
        if path in _LOOKED_AT and found and stat.S_ISDIR(found.st_mode):
            with folder.below(name) as inner:
                _refuse_planted(inner, f"{path}/")
