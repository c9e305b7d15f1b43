"""Find what git ignores below `service/`, so that an operator learns what a release does not carry."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tasks.engine.release import file_rules, git, package_folders
from tasks.engine.release.archive import Tree

_SHOWN = 5
_COUNTED = 100_000
"""Files of one directory that are measured at most."""
_USUAL = re.compile(
    r"node_modules|htmlcov|\.(cache|sass-cache|parcel-cache|eggs|idea|vscode|ipynb_checkpoints)|\.coverage(\..+)?"
    r"|.+\.egg(-info)?"
)


class Left(NamedTuple):
    """What stays behind. path: below `service/`, a directory's with a slash at its end; size: bytes; files: number."""

    path: str
    size: int
    files: int


def find(root: Path, tree: Tree) -> tuple[Left, ...]:
    """Return the topmost directories and files that git ignores and the release lacks, the largest first.

    Leaves out caches, installed packages, files of editors, and files that no release may have.
    """
    folder = root / "service"
    carried = {entry.path for entry in tree.entries}
    found = []
    for raw in _topmost(git.ignored(root)):
        # What is `shared` never belongs to a release.
        if file_rules.place_of(os.fsdecode(raw).removesuffix("/"), tree.shared):
            continue
        sizes = list(islice(_sizes(folder, raw, carried), _COUNTED))
        if sizes:
            found.append(Left(os.fsdecode(raw), sum(sizes), len(sizes)))
    return tuple(sorted(found, key=lambda left: (-left.size, left.path)))


def sentence(left: Sequence[Left]) -> str:
    """Return what an operator is told of them, in one line; nothing if there are none."""
    if not left:
        return ""
    named = [f"{one.path} ({'over ' if one.files == _COUNTED else ''}{_amount(one.size)})" for one in left[:_SHOWN]]
    more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    return f"left behind, because git ignores it: {', '.join(named)}{more}; `include` in service.yaml carries it"


def _topmost(paths: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the sorted paths that lie below no other one."""
    above = None
    for path in sorted(paths):
        if above is None or not path.startswith(above):
            above = path if path.endswith(b"/") else None
            yield path


def _sizes(folder: Path, raw: bytes, carried: Collection[str]) -> Iterator[int]:
    """Yield the size of each file in a directory, or of the one file."""
    if _is_usual(os.fsdecode(raw).removesuffix("/")):
        return
    top = os.path.join(os.fsencode(folder), raw)  # noqa: PTH118
    if not raw.endswith(b"/"):
        yield from _size(folder, raw, carried)
        return
    # A list, not os.walk: before Python 3.12 that calls itself for each level.
    waiting = [top]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if not entry.is_dir():
                    yield from _size(folder, os.path.relpath(entry.path, os.fsencode(folder)), carried)
                elif not entry.is_symlink() and not _is_usual(os.fsdecode(entry.name)):
                    waiting.append(entry.path)


def _size(folder: Path, raw: bytes, carried: Collection[str]) -> Iterator[int]:
    path = os.fsdecode(raw)
    if path in carried or _is_usual(path) or file_rules.check_name(raw):
        return
    if file_rules.is_litter(path) or package_folders.is_own(path):
        return
    try:
        yield (folder / path).lstat().st_size
    except OSError:
        return


def _is_usual(path: str) -> bool:
    """Return True for a file or a directory that belongs to a development environment, by its own name."""
    parts = path.split("/")
    return bool(file_rules.CACHES.intersection(parts)) or _USUAL.fullmatch(parts[-1]) is not None


def _amount(size: int) -> str:
    """Write a number of bytes for a person."""
    for unit, bytes_ in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return f"{size} bytes"
