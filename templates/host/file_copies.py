"""Replace files that change their owner by copies: the former owner may have them open for writing.

An open descriptor survives every change of owner and mode, in any process that has it. So setup copies each file, once
for all its hard links, into a directory of root's, and puts the copies in the places of the files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress

from . import programs
from .folders import Folder, open_leased
from .run import Refused, Run

PREFIX = ".handover-"
"""Start of the name of the directory of copies, in the directory that is handed over."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_PIECE = 1 << 24
_ROOM = 16 << 20
"""Bytes to leave free on the disk."""
_SYNC_SECONDS = 300

SetRights = Callable[[int, os.stat_result], None]
"""Set the owner and the mode of an open copy, from the status of its file."""


class Copies:
    """The copies of all files below one directory. sizes: bytes of each file to copy, by inode."""

    def __init__(self, run: Run, root: Folder, sizes: Mapping[int, int]) -> None:
        self._run, self._root, self._sizes = run, root, sizes
        self._name = f"{PREFIX}{run.id}"
        self._device = os.fstat(root.descriptor).st_dev

    def __enter__(self) -> Copies:
        self._require_room()
        os.mkdir(self._name, 0o700, dir_fd=self._root.descriptor)
        self.folder = self._root.below(self._name)
        if not _is_roots(self.folder) or self.folder.names():
            self.folder.__exit__()
            raise Refused(f"{self.folder.path} was replaced while setup made it: run setup again")
        strip(self.folder.descriptor)
        os.fchmod(self.folder.descriptor, 0o700)
        return self

    def __exit__(self, *_: object) -> None:
        self.folder.__exit__()
        remove_left(self._root)

    def _require_room(self) -> None:
        disk, needed = os.fstatvfs(self._root.descriptor), sum(self._sizes.values()) + _ROOM
        free = disk.f_bavail * disk.f_frsize
        if free < needed:
            raise Refused(
                f"copying {self._root.path} for the new account needs {needed >> 20} MiB, and {free >> 20} MiB are "
                "free: make room on that disk, or remove what is not ours (du -a --apparent-size shows what is large), "
                "and run setup again"
            )
        if disk.f_files and disk.f_favail < len(self._sizes):
            raise Refused(
                f"the file system of {self._root.path} has too few inodes left: make room, and run setup again"
            )

    def is_folder(self, status: os.stat_result) -> bool:
        """Return whether this is the status of the directory of copies."""
        own = os.fstat(self.folder.descriptor)
        return (own.st_dev, own.st_ino) == (status.st_dev, status.st_ino)

    def make(self, folder: Folder, name: str, set_rights: SetRights) -> None:
        """Copy a regular file, once for all its hard links, and no more bytes than `sizes` has for it."""
        self._run.heed()
        path = f"{folder.path}/{name}"
        try:
            source = open_leased(name, _READ, self._run.heed, folder.descriptor)
            try:
                self._copy(source, path, set_rights)
            finally:
                os.close(source)
        except BlockingIOError as error:
            raise Refused(
                f"{path} cannot be opened: a process keeps a lease on it (F_SETLEASE). End that process, which "
                "/proc/locks names, lock the former account, and run setup again"
            ) from error
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from error

    def _copy(self, source: int, path: str, set_rights: SetRights) -> None:
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode) or status.st_dev != self._device or status.st_ino not in self._sizes:
            raise Refused(f"{path} was changed while it was given away: run setup again")
        name = str(status.st_ino)
        if self.folder.status(name):
            return
        copy = os.open(name, _NEW, 0o600, dir_fd=self.folder.descriptor)
        try:
            size, copied = min(status.st_size, self._sizes[status.st_ino]), 0
            while size > copied and (sent := os.sendfile(copy, source, copied, min(size - copied, _PIECE))):
                copied += sent
            set_rights(copy, status)
            os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(copy)

    def flush(self) -> None:
        """Flush all copies to the disk, so that a power cut leaves no file empty."""
        # Not by its path, which the former owner could lead to a device.
        programs.ask("sync", "-f", f"/proc/{os.getpid()}/fd/{self.folder.descriptor}", seconds=_SYNC_SECONDS)

    def put(self, folder: Folder, name: str, inode: int) -> None:
        """Put the copy of a file in its place; hard links to one file stay links to one copy."""
        if not self.folder.status(str(inode)):
            raise Refused(f"{folder.path}/{name} came while its directory was given away: run setup again")
        ours = self.folder.descriptor
        os.link(str(inode), "given", src_dir_fd=ours, dst_dir_fd=ours)
        os.rename("given", name, src_dir_fd=ours, dst_dir_fd=folder.descriptor)


def end_lease(folder: Folder, name: str) -> None:
    """Have the kernel end the leases on a file, in 45 s. Call this for all files first: they then end together."""
    with suppress(OSError):
        os.close(os.open(name, _READ, dir_fd=folder.descriptor))


def strip(descriptor: int) -> None:
    """Remove the access control lists of an open file or directory."""
    for name in ("system.posix_acl_access", "system.posix_acl_default"):
        try:
            os.removexattr(f"/proc/self/fd/{descriptor}", name)
        except OSError:
            continue


def _is_roots(folder: Folder) -> bool:
    """Return whether an open directory is root's: the former owner can exchange the names in its own directory."""
    return os.fstat(folder.descriptor).st_uid == 0


def remove_left(root: Folder) -> None:
    """Remove root's directories of copies that this setup, or a killed one, left."""
    for name in root.names():
        status = root.status(name)
        if name.startswith(PREFIX) and status and stat.S_ISDIR(status.st_mode) and status.st_uid == 0:
            with root.below(name) as left:
                for file in left.names() if _is_roots(left) else ():
                    left.remove(file)
            os.rmdir(name, dir_fd=root.descriptor)
