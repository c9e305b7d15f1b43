"""Report which shared libraries the host lacks, of those that wheels need. Loads none: it looks for their files."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator

from . import programs
from .run import Run

_FOLDERS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")
"""Folders in which the loader looks without its cache."""
_CACHED = re.compile(r"^\s+(\S+) \(.*\) => (/.*)$", re.MULTILINE)


def perform(run: Run) -> None:
    """Report `lacks NAME` for each library that the loader would not find."""
    # The cache of the loader, as text. A system without it (musl) has no such program.
    cached = _CACHED.findall(programs.ask("ldconfig", "-p").output)
    ours = _kind(sys.executable)
    for name, folders in run.step["libraries"].items():
        known = (path for library, path in cached if library == name)
        if not any(_kind(path) == ours for path in (*known, *_places(name, folders))):
            run.report("lacks", name)


def _places(name: str, folders: list[str]) -> Iterator[str]:
    if name.startswith("/"):
        yield name
    yield from (f"{folder}/{name}" for folder in (*folders, *_FOLDERS))


def _kind(path: str) -> tuple[bytes, bytes] | None:
    """Return class and byte order, and machine, of an ELF file; None for anything else."""
    if not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as file:
            head = file.read(20)
    except OSError:
        return None
    return (head[4:6], head[18:20]) if head[:4] == b"\x7fELF" else None
