"""Work in open directories. No link is followed, so an account that may write there cannot redirect us."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO

DEEPEST = 64
"""Levels of directories; a release has a few."""
MOST = 1_000_000
"""Names of the largest directory that is listed; a release has some thousands."""
LARGEST = 8 << 30
"""Bytes of the largest file that a release may have."""
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}
"""Errors of a disk that is full or broken, not of a file that is missing or in the way."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# O_NONBLOCK: opening a FIFO in the place of a file does not block.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


LEASE = 60
"""Seconds to wait for a file on which another process has a lease (F_SETLEASE): the kernel ends one after 45."""


def open_leased(name: str, flags: int, heed: Callable[[], object], folder: int | None = None) -> int:
    """Open a file, once the lease of another process has ended, but wait for no pipe; BlockingIOError if it is late.

    heed: called meanwhile, may raise; folder: the descriptor of the directory of the file
    """
    end = time.monotonic() + LEASE
    while True:
        try:
            return os.open(name, flags | os.O_NONBLOCK, dir_fd=folder)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
        heed()
        time.sleep(0.1)


class Folder:
    """An open directory. path: for messages."""

    def __init__(self, descriptor: int, path: str) -> None:
        self.descriptor, self.path = descriptor, path

    @classmethod
    def open(cls, path: str) -> Folder:
        """Open a directory by its path; OSError for a link at the path.

        Links above it are followed: root may use this only where root alone can write in the parents.
        """
        return cls(os.open(path, _DIRECTORY), path)

    def below(self, name: str) -> Folder:
        """Open a directory in this one."""
        return Folder(os.open(name, _DIRECTORY, dir_fd=self.descriptor), f"{self.path}/{name}")

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def status(self, name: str) -> os.stat_result | None:
        """Return the status of a name, without following a link; None if it does not exist."""
        try:
            return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def sync(self) -> None:
        """Flush the directory's changes to the disk: names, and the targets of links."""
        os.fsync(self.descriptor)

    def names(self) -> list[str]:
        """Return all names in the directory, sorted; OSError for more than MOST."""
        return sorted(name for name, _ in self._entries())

    def _entries(self) -> list[tuple[str, bool]]:
        """Return each name, and whether it is a directory's."""
        with os.scandir(self.descriptor) as scanned:
            entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for _, entry in zip(range(MOST + 1), scanned)]
        if len(entries) > MOST:
            raise OSError(0, f"it has more than {MOST} entries", self.path)
        return entries

    def link(self, name: str) -> str:
        """Return the target of a link; empty for anything else."""
        try:
            return os.readlink(name, dir_fd=self.descriptor)
        except OSError:
            return ""

    def reader(self, name: str) -> BinaryIO:
        """Open a regular file for reading; OSError for anything else."""
        descriptor = os.open(name, _READ, dir_fd=self.descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(0, "not a regular file", f"{self.path}/{name}")
        return os.fdopen(descriptor, "rb")

    def read(self, name: str, limit: int) -> bytes:
        """Return the first `limit` bytes of a regular file."""
        with self.reader(name) as file:
            return file.read(limit)

    def make(self, name: str, mode: int) -> None:
        """Make a directory, unless it exists; OSError if something else has that name."""
        try:
            os.mkdir(name, mode, dir_fd=self.descriptor)
        except FileExistsError:
            with self.below(name):
                pass

    def write(self, name: str, data: bytes, mode: int) -> None:
        """Write a new file and flush it to the disk; FileExistsError if the name exists."""
        with self.writer(name, mode) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def writer(self, name: str, mode: int) -> BinaryIO:
        """Open a new file for writing; FileExistsError if the name exists."""
        descriptor = os.open(name, _NEW, 0o600, dir_fd=self.descriptor)
        os.fchmod(descriptor, mode)
        return os.fdopen(descriptor, "wb")

    def overwrite(self, name: str, data: bytes, mode: int) -> None:
        """Write a file in place, or a new one. Needs no room for a second file; a reader may see half of the data."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(name, flags, mode, dir_fd=self.descriptor)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            os.ftruncate(descriptor, 0)
            file.write(data)

    def rename(self, name: str, to: str) -> None:
        """Rename something in this directory, and replace what has the new name."""
        os.rename(name, to, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def replace(self, name: str, data: bytes, mode: int, part: str) -> None:
        """Write a file and rename it into place. part: the temporary name of the file."""
        self.remove(part)
        self.write(part, data, mode)
        self.rename(part, name)

    def remove(self, name: str) -> None:
        """Remove a file or a link, if it exists."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.descriptor)

    def walk(self, prefix: str = "") -> Iterator[tuple[Folder, str, str]]:
        """Yield (folder, name, path) of everything except directories; OSError for directories nested too deep."""
        if prefix.count("/") > DEEPEST:
            raise OSError(0, "nested too deep", self.path)
        for name, is_folder in sorted(self._entries()):
            if is_folder:
                with self.below(name) as inner:
                    yield from inner.walk(f"{prefix}{name}/")
            else:
                yield self, name, prefix + name
