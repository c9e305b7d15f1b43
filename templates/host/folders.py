"""Open directories, and what is done in them. No name is followed as a link: who may write there leads us nowhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

DEEPEST = 64
"""Directories below each other; a release has a few."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# O_NONBLOCK: a FIFO in the place of a file does not keep us waiting.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


class Folder:
    """An open directory. path: for messages."""

    def __init__(self, descriptor: int, path: str) -> None:
        self.descriptor, self.path = descriptor, path

    @classmethod
    def open(cls, path: str) -> Folder:
        """A directory by its path, above which only root may write; OSError for a link in its place."""
        return cls(os.open(path, _DIRECTORY), path)

    def below(self, name: str) -> Folder:
        """A directory in it."""
        return Folder(os.open(name, _DIRECTORY, dir_fd=self.descriptor), f"{self.path}/{name}")

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def status(self, name: str) -> os.stat_result | None:
        """What a name stands for, a link being a link; None where there is nothing of that name."""
        try:
            return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def sync(self) -> None:
        """Bring what has changed in it to the disk: names, and where links lead."""
        os.fsync(self.descriptor)

    def names(self) -> list[str]:
        """Everything in it."""
        return sorted(os.listdir(self.descriptor))

    def link(self, name: str) -> str:
        """Where a link leads; empty when it is none."""
        try:
            return os.readlink(name, dir_fd=self.descriptor)
        except OSError:
            return ""

    def reader(self, name: str) -> BinaryIO:
        """A regular file, open to be read; OSError for anything else."""
        descriptor = os.open(name, _READ, dir_fd=self.descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(0, "it is no regular file", f"{self.path}/{name}")
        return os.fdopen(descriptor, "rb")

    def read(self, name: str, limit: int) -> bytes:
        """The first `limit` bytes of a regular file."""
        with self.reader(name) as file:
            return file.read(limit)

    def make(self, name: str, mode: int) -> None:
        """A directory, unless there is one; OSError when something else has that name."""
        try:
            os.mkdir(name, mode, dir_fd=self.descriptor)
        except FileExistsError:
            with self.below(name):
                pass

    def write(self, name: str, data: bytes, mode: int) -> None:
        """A new file, on the disk when this returns; FileExistsError when there is something of that name."""
        with self.writer(name, mode) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def writer(self, name: str, mode: int) -> BinaryIO:
        """A new file, open to be written; FileExistsError when there is something of that name."""
        descriptor = os.open(name, _NEW, 0o600, dir_fd=self.descriptor)
        os.fchmod(descriptor, mode)
        return os.fdopen(descriptor, "wb")

    def overwrite(self, name: str, data: bytes, mode: int) -> None:
        """Write a file in place, or a new one: it takes no more room, and a reader may see the half of it."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(name, flags, mode, dir_fd=self.descriptor)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            os.ftruncate(descriptor, 0)
            file.write(data)

    def rename(self, name: str, to: str) -> None:
        """Give something in this directory another name, in place of whatever had that."""
        os.rename(name, to, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def replace(self, name: str, data: bytes, mode: int, part: str) -> None:
        """Write a file in place of whatever had its name, by a rename. part: the name that it has until then."""
        self.remove(part)
        self.write(part, data, mode)
        self.rename(part, name)

    def remove(self, name: str) -> None:
        """Remove a file or a link; nothing happens where there is none."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.descriptor)

    def walk(self, prefix: str = "") -> Iterator[tuple[Folder, str, str]]:
        """(folder, name, path) of everything below that is no directory; OSError for one that is nested too deep."""
        if prefix.count("/") > DEEPEST:
            raise OSError(0, "it is nested too deep", self.path)
        with os.scandir(self.descriptor) as found:
            entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in found)
        for name, is_folder in entries:
            if is_folder:
                with self.below(name) as inner:
                    yield from inner.walk(f"{prefix}{name}/")
            else:
                yield self, name, prefix + name
