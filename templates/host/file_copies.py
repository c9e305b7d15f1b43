"""Copies of the files that change hands: what a former owner has open is not what counts any more.

A descriptor that was opened for writing outlives every change of owner and mode, in whatever process it is by now. So
each file is copied, once for all its names, into a directory of root's, and the copies take the places of the files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping

from . import programs
from .folders import Folder
from .run import Refused, Run

PREFIX = ".handover-"
"""How the directory of the copies is called, below the one that changes hands."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_PIECE = 1 << 24
_ROOM = 16 << 20
"""Bytes that are left free on the disk."""
_SYNC_SECONDS = 300

Dress = Callable[[int, os.stat_result], None]
"""Give an open copy the owner and the mode that follow from those of its file."""


class Copies:
    """The copies of all files below one directory. sizes: of the files to be copied, by inode."""

    def __init__(self, run: Run, root: Folder, sizes: Mapping[int, int]) -> None:
        self._run, self._root, self._sizes = run, root, sizes
        self._name = f"{PREFIX}{run.id}"
        self._device = os.fstat(root.descriptor).st_dev

    def __enter__(self) -> Copies:
        self._require_room()
        os.mkdir(self._name, 0o700, dir_fd=self._root.descriptor)
        self.folder = self._root.below(self._name)
        strip(self.folder.descriptor)
        os.fchmod(self.folder.descriptor, 0o700)
        return self

    def __exit__(self, *_: object) -> None:
        self.folder.__exit__()
        forget(self._root)

    def _require_room(self) -> None:
        found, wanted = os.fstatvfs(self._root.descriptor), sum(self._sizes.values()) + _ROOM
        free = found.f_bavail * found.f_frsize
        if free < wanted:
            raise Refused(
                f"{self._root.path} changes hands by copies, which take {wanted >> 20} MiB, and {free >> 20} MiB are "
                "free: make room on that disk, and run setup again"
            )
        if found.f_files and found.f_favail < len(self._sizes):
            raise Refused(
                f"the file system of {self._root.path} has too few inodes left: make room, and run setup again"
            )

    def holds(self, status: os.stat_result) -> bool:
        """Whether this is the directory of the copies itself."""
        found = os.fstat(self.folder.descriptor)
        return (found.st_dev, found.st_ino) == (status.st_dev, status.st_ino)

    def make(self, folder: Folder, name: str, dress: Dress) -> None:
        """Copy a regular file, unless that was done by another of its names. Never more than was looked at."""
        self._run.heed()
        path = f"{folder.path}/{name}"
        try:
            source = os.open(name, _READ, dir_fd=folder.descriptor)
            try:
                self._copy(source, path, dress)
            finally:
                os.close(source)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from error

    def _copy(self, source: int, path: str, dress: Dress) -> None:
        found = os.fstat(source)
        if not stat.S_ISREG(found.st_mode) or found.st_dev != self._device or found.st_ino not in self._sizes:
            raise Refused(f"{path} was changed while it was given away: run setup again")
        name = str(found.st_ino)
        if self.folder.status(name):
            return
        copy = os.open(name, _NEW, 0o600, dir_fd=self.folder.descriptor)
        try:
            left, done = min(found.st_size, self._sizes[found.st_ino]), 0
            while left > done and (sent := os.sendfile(copy, source, done, min(left - done, _PIECE))):
                done += sent
            dress(copy, found)
            os.utime(copy, ns=(found.st_atime_ns, found.st_mtime_ns))
        finally:
            os.close(copy)

    def keep(self) -> None:
        """All copies are on the disk when this returns: a power cut leaves no file empty."""
        programs.ask("sync", "-f", f"{self._root.path}/{self._name}", seconds=_SYNC_SECONDS)

    def put(self, folder: Folder, name: str, inode: int) -> None:
        """Put the copy of a file in its place; all names of one file stay names of one."""
        if not self.folder.status(str(inode)):
            raise Refused(f"{folder.path}/{name} came while its directory was given away: run setup again")
        ours = self.folder.descriptor
        os.link(str(inode), "given", src_dir_fd=ours, dst_dir_fd=ours)
        os.rename("given", name, src_dir_fd=ours, dst_dir_fd=folder.descriptor)


def strip(descriptor: int) -> None:
    """Take the access control lists from what is open."""
    for name in ("system.posix_acl_access", "system.posix_acl_default"):
        try:
            os.removexattr(f"/proc/self/fd/{descriptor}", name)
        except OSError:
            continue


def forget(root: Folder) -> None:
    """Remove what this setup, or one that was killed, has left of copies; they are root's."""
    for name in root.names():
        found = root.status(name)
        if name.startswith(PREFIX) and found and stat.S_ISDIR(found.st_mode) and found.st_uid == 0:
            with root.below(name) as left:
                for file in left.names():
                    left.remove(file)
            os.rmdir(name, dir_fd=root.descriptor)
