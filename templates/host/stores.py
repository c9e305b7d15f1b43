"""What lies below the directory of a service: its releases, and what was done with them. Reads only, and no link.

All of it is the deploy account's, which may have put anything there. What may be much is told in lines of its own.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress

from .folders import Folder
from .history import FILE

Line = tuple[str, str]
"""A word, and the rest of the line."""
_RELEASES, _STORED = 2000, 4000
"""So many names are told."""
_RECORD, _HISTORY, _MANIFEST = 1 << 16, 16 << 20, 16 << 20
"""Bytes that are read of each."""
_FORMER = 200
"""Switches that are told of the time before the last lines."""
_SWITCHED = re.compile(rb'"action":"(deploy|rollback)",.*"state":"done"')
_CUT = re.compile(r"\.part-old-.{12}")


def releases(root: Folder) -> Iterator[Line]:
    """The record of each release as one line, whoever has written it."""
    with root.below("releases") as folder:
        for name in folder.names()[:_RELEASES]:
            with suppress(OSError), folder.below(name) as release:
                yield "release", _text(release.read("release.json", _RECORD)).replace("\n", "")


def pruning(root: Folder) -> bool:
    """Whether the power went in the middle of a prune."""
    try:
        with root.below("releases") as folder:
            return any(map(_CUT.fullmatch, folder.names()))
    except OSError:
        return False


def stored(root: Folder, name: str) -> tuple[str, ...]:
    """The names of what is there of `venvs`, which are directories, or `wheels`, which are files."""
    wanted = stat.S_ISDIR if name == "venvs" else stat.S_ISREG
    try:
        with root.below(name) as folder:
            found = ((one, folder.status(one)) for one in folder.names() if not one.startswith("."))
            return tuple(one for one, status in found if status and wanted(status.st_mode))[:_STORED]
    except OSError:
        return ()


def history(root: Folder, last: int) -> Iterator[Line]:
    """So many last lines as they are, and of what came before the last switches that were done."""
    try:
        with root.reader(FILE) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _HISTORY))
            lines = file.read(_HISTORY).split(b"\n")
    except OSError:
        return
    # What follows the last end of a line is nothing, or a line that a power cut left half-written.
    lines = lines if lines[-1] else lines[:-1]
    before, kept = (lines[:-last], lines[-last:]) if last else (lines, [])
    for line in [line for line in before if _SWITCHED.search(line)][-_FORMER:] + kept:
        yield "history", _text(line[:_RECORD])


def manifest(root: Folder, release: str) -> Iterator[Line]:
    """What a release is made of: a line `same DIGEST  PATH` for each file."""
    try:
        with root.below("releases") as folder, folder.below(release) as place:
            data = place.read("MANIFEST", _MANIFEST)
    except OSError:
        return
    for line in data.split(b"\n"):
        if line:
            yield "same", _text(line)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
