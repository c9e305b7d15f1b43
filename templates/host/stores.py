"""Read what is below the directory of a service: its releases and their history. Follows no link, changes nothing.

The deploy account owns all of it, and may have put anything there. Long contents get reports of their own.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress

from . import rollback_stack
from .folders import Folder
from .history import FILE, SWITCHED

Line = tuple[str, str]
"""A report: its word and its text."""
_RELEASES, _STORED = 2000, 4000
"""Names to report at most."""
_RECORD, _HISTORY, _MANIFEST = 1 << 16, 16 << 20, 16 << 20
"""Bytes to read of a release.json, of the history, of a manifest."""
_FORMER = 200
"""Switches to report from before the last lines."""
_CUT = re.compile(r"\.part-old-.{12}")


def releases(root: Folder) -> Iterator[Line]:
    """Yield release.json of each release as one line, unchecked."""
    with root.below("releases") as folder:
        for name in folder.names()[:_RELEASES]:
            with suppress(OSError), folder.below(name) as release:
                yield "release", _text(release.read("release.json", _RECORD)).replace("\n", "")


def pruning(root: Folder) -> bool:
    """Return whether a release is left that a prune or a stage has put aside."""
    try:
        with root.below("releases") as folder:
            return any(map(_CUT.fullmatch, folder.names()))
    except OSError:
        return False


def stored(root: Folder, name: str) -> tuple[str, ...]:
    """Return the names in `venvs`, which are directories, or in `wheels`, which are files."""
    wanted = stat.S_ISDIR if name == "venvs" else stat.S_ISREG
    try:
        with root.below(name) as folder:
            entries = ((entry, folder.status(entry)) for entry in folder.names() if not entry.startswith("."))
            return tuple(entry for entry, status in entries if status and wanted(status.st_mode))[:_STORED]
    except OSError:
        return ()


def history(root: Folder, last: int) -> Iterator[Line]:
    """Yield the last lines as they are; ahead of them, from the lines before, the newest 200 that SWITCHED matches."""
    try:
        with root.reader(FILE) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _HISTORY))
            lines = file.read(_HISTORY).split(b"\n")
    except OSError:
        return
    # After the last newline there is nothing, or a line that a power cut left incomplete.
    lines = lines if lines[-1] else lines[:-1]
    before, kept = (lines[:-last], lines[-last:]) if last else (lines, [])
    for line in [line for line in before if SWITCHED.search(line)][-_FORMER:] + kept:
        yield "history", _text(line[:_RECORD])


def switches(root: Folder) -> Iterator[tuple[str, str]]:
    """Yield action and release of the newest 200 completed deploys, rollbacks and undos, for `rollback_stack`."""
    for _, line in history(root, 0):
        try:
            entry = json.loads(line)
            done = entry["state"] == "done" and entry["action"] in rollback_stack.ACTIONS
            if done and isinstance(entry["release"], str):
                yield entry["action"], entry["release"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue


def manifest(root: Folder, release: str) -> Iterator[Line]:
    """Yield a report `same DIGEST  PATH` for each file of a release."""
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
