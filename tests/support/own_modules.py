"""The modules of `fab` that are ours, loaded once: a fork that runs `fab` in a clone says that they lie there."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import time
from pathlib import Path
from types import ModuleType

State = tuple[int, int]


def _state(path: str) -> State:
    found = os.stat(path)  # noqa: PTH116 - two hundred times in each fork
    return found.st_size, found.st_mtime_ns


class OwnModules:
    """All modules of `tasks`, and those of `templates` that they import, as they are below `root`."""

    def __init__(self, root: str) -> None:
        importlib.import_module("tasks")
        for found in pkgutil.walk_packages([f"{root}/tasks"], "tasks."):
            importlib.import_module(found.name)
        self._root = root
        self._modules = {name: module for name, module in sys.modules.items() if self._is_own(name)}
        # A package without an __init__.py has no file.
        self._files = {file: _state(file) for module in self._modules.values() if (file := module.__file__)}
        self._places = [place for module in self._modules.values() for place in self._places_of(module)]

    def settle(self, root: str) -> None:
        """Let them lie below `root`, where `fab` runs; forget them if one of its files is not what it is here."""
        if not self._are_equal(root):
            for name in self._modules:
                del sys.modules[name]
            return
        for module, name, value in self._places:
            setattr(module, name, self._moved(value, root))
        vars(self._modules["tasks.runner"])["_BEGAN"] = time.monotonic()

    @staticmethod
    def _is_own(name: str) -> bool:
        return name.partition(".")[0] in ("tasks", "templates")

    def _places_of(self, module: ModuleType) -> list[tuple[ModuleType, str, object]]:
        """Return the names of a module whose values are paths below the root, with these."""
        return [(module, name, value) for name, value in vars(module).items() if self._moved(value, "/") != value]

    def _moved(self, value: object, root: str) -> object:
        """Return a value; a path, or a list of paths, below the root as the same below another."""
        if isinstance(value, list):
            return [self._moved(each, root) for each in value]
        if isinstance(value, Path):
            return Path(str(self._moved(str(value), root)))
        if isinstance(value, str) and (value == self._root or value.startswith(f"{self._root}/")):
            return root + value[len(self._root) :]
        return value

    def _are_equal(self, root: str) -> bool:
        try:
            return all(_state(root + file[len(self._root) :]) == state for file, state in self._files.items())
        except OSError:
            return False
