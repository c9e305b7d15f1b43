"""Report which shared libraries the host lacks, of those that wheels need. Loads none: it looks for their files."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

from . import accounts, programs, small_file
from .run import Run

_FOLDERS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")
"""Folders in which the loader looks without its cache."""
_SECONDS, _HEAD = 30, 100
"""Seconds for all looks, and bytes to report beside the names."""
_CACHED = re.compile(r"^[ \t]+(\S+) \(.*\) => (/.*)$", re.MULTILINE)


def perform(run: Run) -> None:
    """Report `lacks NAME` for each library that the loader would not find."""
    # The cache of the loader, as text. A system without it (musl) has no such program.
    cached = _CACHED.findall(programs.ask("ldconfig", "-p").output)
    wanted: dict[str, list[str]] = run.step["libraries"]

    def work(output: BinaryIO) -> None:
        output.write("\n".join(_lacking(wanted, cached)).encode())

    # In another process: a wheel names the folders, and what others have there may be read without an end.
    most = len("\n".join(wanted).encode()) + _HEAD
    for name in filter(None, accounts.within(work, _SECONDS, most).decode().split("\n")):
        run.report("lacks", name)


def _lacking(wanted: Mapping[str, list[str]], cached: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield the names that are at none of their places. cached: names and paths that the loader knows."""
    ours = _kind(sys.executable)
    for name, folders in wanted.items():
        known = (path for library, path in cached if library == name)
        if not any(_kind(path) == ours for path in (*known, *_places(name, folders))):
            yield name


def _places(name: str, folders: list[str]) -> Iterator[str]:
    if name.startswith("/"):
        yield name
    yield from (f"{folder}/{name}" for folder in (*folders, *_FOLDERS))


def _kind(path: str) -> tuple[bytes, bytes] | None:
    """Return class and byte order, and machine, of an ELF file; None for anything else."""
    head = small_file.content(path, 20) or b""
    return (head[4:6], head[18:20]) if head[:4] == b"\x7fELF" else None
