"""Find the files that `include` of service.yaml names: a release carries them although git ignores them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath

from tasks.engine.errors import UsageError
from tasks.engine.release import file_rules, git


def find(folder: Path, include: Mapping[str, str]) -> frozenset[bytes]:
    """Return the paths below `folder` of all files that `include` names.

    include: paths and globs, each with its place in service.yaml; UsageError for one that matches no file
    """
    found: set[bytes] = set()
    for pattern, place in include.items():
        try:
            matched = {path for path in _matched(folder, pattern) if not file_rules.is_litter(os.fsdecode(path))}
        except RecursionError:
            # Of `**`, which Python follows by recursion.
            raise UsageError(
                f"directories lie too deep below service/ for {pattern!r}", where=place, next="name a directory in it"
            ) from None
        if not matched:
            raise UsageError(
                f"no file below service/ matches {pattern!r}",
                where=place,
                next="make the files first, or correct the path: it begins below service/",
            )
        found |= matched
    return frozenset(found)


def _matched(folder: Path, pattern: str) -> Iterator[bytes]:
    for match in folder.glob(pattern.removesuffix("/")):
        inside = match.relative_to(folder)
        if _is_cache(inside, pattern):
            continue
        name = os.fsencode(inside)
        if match.is_dir() and not match.is_symlink():
            yield from git.walk(os.fsencode(match), name + b"/")
        else:
            yield name


def _is_cache(path: PurePath, pattern: str) -> bool:
    """Return True for a cache or a venv below which a glob looked, unless the pattern itself names it."""
    return bool(file_rules.CACHES.intersection(path.parts) - ({*pattern.split("/")} - {".git"}))
