"""Walk and remove trees of files. Paths come in order, so each directory is opened once."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack

from . import programs
from .folders import Folder


class Descent:
    """The directories below `top`; the last one used stays open. make: make those that are missing."""

    def __init__(self, top: Folder, *, make: bool = False) -> None:
        self._top, self._make = top, make
        self._at, self._folder = "", top
        self._open = ExitStack()

    @property
    def path(self) -> str:
        """The path of `top`, for messages."""
        return self._top.path

    def __enter__(self) -> Descent:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def at(self, path: str) -> Folder:
        """Return a directory by its path below `top`; OSError for `..` and for a link."""
        if path != self._at:
            self._open.close()
            self._at, self._folder = "", self._top
            for name in path.split("/") if path else []:
                self._folder = self._enter(name)
            self._at = path
        return self._folder

    def _enter(self, name: str) -> Folder:
        if name in {"", ".", ".."}:
            raise OSError(0, "not a name of a directory", f"{self._folder.path}/{name}")
        if self._make:
            self._folder.make(name, 0o755)
        return self._open.enter_context(self._folder.below(name))


def link(source: Folder, target: Folder, name: str) -> None:
    """Hard-link a file into another directory, by the same name."""
    os.link(name, name, src_dir_fd=source.descriptor, dst_dir_fd=target.descriptor, follow_symlinks=False)


def clear(folder: Folder, name: str) -> None:
    """Remove a file or a tree, however deep, if it exists.

    The guard of the previous run may be pruning the same tree at this moment.
    """
    status = folder.status(name)
    if status and stat.S_ISDIR(status.st_mode):
        if not programs.remove_tree(f"{folder.path}/{name}"):
            raise OSError(0, "it cannot be removed: see who owns the files below", f"{folder.path}/{name}")
    elif status:
        folder.remove(name)
