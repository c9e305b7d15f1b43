"""The copies of this program that a host keeps, so that the next run need not send it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping

from . import kept, programs
from .folders import Folder
from .run import Run

FOLDER = ".program"
_COPY = re.compile("[0-9a-f]{12}")
_LONGEST = 4096
"""Bytes to read of a path."""
_PYTHON = re.compile(r"/usr/(?:local/)?bin/python3\.[0-9]+\n")
COPIES = 3
"""Versions to keep: controllers of several versions may use a host in turn."""


def keep(run: Run, root: str, sources: Mapping[str, str]) -> str:
    """Return the path of this program's copy, and make it if missing. sources: empty if a copy is running."""
    if not sources:
        return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    name = kept.digest(sources)
    with Folder.open(root) as folder:
        folder.make(FOLDER, 0o755)
        with folder.below(FOLDER) as place:
            if not (whole(place, name) and names_python(place, name)):
                _write(place, name, f".part-{run.id}", sources)
            _name_python(place, name)
            os.utime(name, dir_fd=place.descriptor)
            _sweep(place)
            return f"{place.path}/{name}"


def whole(place: Folder, name: str) -> bool:
    """Return whether the content of a copy has the digest that is its name."""
    try:
        sources = kept.read(f"{place.path}/{name}")
        with place.below(name) as copy:
            main = copy.read("__main__.py", 1 << 20).decode()
            # The name `kept` belongs to the format of a copy: controllers of other versions look for it.
            return kept.digest(sources) == name and main == sources.get("kept")
    except (OSError, ValueError):
        return False


def names_python(place: Folder, name: str) -> bool:
    """Return whether a copy names an interpreter of the system, even one that an upgrade removed, or names none."""
    try:
        line = place.read(f"{name}/python", _LONGEST).decode()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    # The interpreter that the starter found, which runs this, may be a link to anywhere.
    return line == f"{os.path.realpath(sys.executable)}\n" or bool(_PYTHON.fullmatch(line))


def _write(place: Folder, name: str, part: str, sources: Mapping[str, str]) -> None:
    """Write a copy under a temporary name and rename it, so that an incomplete copy never runs."""
    _remove(place, part)
    place.make(part, 0o755)
    with place.below(part) as copy:
        copy.make("host", 0o755)
        with copy.below("host") as modules:
            for module, text in sources.items():
                modules.overwrite(f"{module}.py", text.encode("utf-8", "surrogateescape"), 0o644)
        copy.overwrite("__main__.py", sources["kept"].encode(), 0o644)
    _remove(place, name)
    place.rename(part, name)


def _name_python(place: Folder, name: str) -> None:
    """Write the path of this interpreter into a copy: a step starts sooner if it need not try interpreters first.

    The path contains the version: `python3` may be another one after an upgrade.
    """
    path = f"{os.path.realpath(sys.executable)}\n".encode()
    with place.below(name) as copy:
        if copy.status("python") is None or copy.read("python", _LONGEST) != path:
            copy.overwrite("python", path, 0o644)


def _sweep(place: Folder) -> None:
    """Remove all but the versions used last, and the leftovers of runs that died."""
    copies = filter(_COPY.fullmatch, place.names())
    by_age = sorted(copies, key=lambda name: os.lstat(f"{place.path}/{name}").st_mtime, reverse=True)
    for name in (*by_age[COPIES:], *(name for name in place.names() if name.startswith(".part-"))):
        _remove(place, name)


def _remove(place: Folder, name: str) -> None:
    if place.status(name) and not programs.remove_tree(f"{place.path}/{name}"):
        raise OSError(0, "it cannot be removed", f"{place.path}/{name}")
