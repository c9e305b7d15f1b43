"""Trees of files: gone through in the order of their paths, so that each directory is opened once, and removed."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack

from . import programs
from .folders import Folder


class Descent:
    """The directories below one; the last that was asked for stays open. make: those that are missing are made."""

    def __init__(self, top: Folder, *, make: bool = False) -> None:
        self._top, self._make = top, make
        self._at, self._folder = "", top
        self._open = ExitStack()

    @property
    def path(self) -> str:
        """The path of the uppermost, for messages."""
        return self._top.path

    def __enter__(self) -> Descent:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def at(self, path: str) -> Folder:
        """A directory, by its path from the uppermost; OSError for `..` and for a link."""
        if path != self._at:
            self._open.close()
            self._at, self._folder = "", self._top
            for name in path.split("/") if path else []:
                self._folder = self._enter(name)
            self._at = path
        return self._folder

    def _enter(self, name: str) -> Folder:
        if name in {"", ".", ".."}:
            raise OSError(0, "it is no name of a directory", f"{self._folder.path}/{name}")
        if self._make:
            self._folder.make(name, 0o755)
        return self._open.enter_context(self._folder.below(name))


def link(source: Folder, target: Folder, name: str) -> None:
    """Give a file of one directory the same name in another."""
    os.link(name, name, src_dir_fd=source.descriptor, dst_dir_fd=target.descriptor, follow_symlinks=False)


def clear(folder: Folder, name: str) -> None:
    """Remove whatever has this name, with all that is in it, however deep; nothing happens where there is nothing.

    Somebody else may be at it, too: the guard of the run before removes what is not needed any more.
    """
    found = folder.status(name)
    if found and stat.S_ISDIR(found.st_mode):
        if not programs.remove_tree(f"{folder.path}/{name}"):
            raise OSError(0, "it cannot be removed: whose is it?", f"{folder.path}/{name}")
    elif found:
        folder.remove(name)
