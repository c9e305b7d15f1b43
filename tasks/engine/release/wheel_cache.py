"""Wheels kept on the controller between runs, each under its own SHA-256 and checked against it every time it is taken.

`HEX/FILENAME` are the wheels; `index/KEY` says which of them answers a requirement for a target. Runs at the same time
are safe: everything is written aside and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from tasks.engine.release.lockfile import LockedRequirement
from tasks.engine.release.python_target import Target


class Wheel(NamedTuple):
    """One wheel on disk: its file name, where it is, hex SHA-256, and size in bytes."""

    filename: str
    path: Path
    sha256: str
    size: int


def default_root() -> Path:
    """`$XDG_CACHE_HOME/integrators-loop/wheels`, or the same under `~/.cache`."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if Path(given).is_absolute() else Path.home() / ".cache") / "integrators-loop" / "wheels"


def scratch(root: Path) -> tempfile.TemporaryDirectory[str]:
    """A directory to write aside in, on the same filesystem, gone when its `with` block ends."""
    root.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=".part-", dir=root)


def take(root: Path, requirement: LockedRequirement, target: Target) -> Wheel | None:
    """The wheel kept for a requirement; None when there is none or it is not what was kept."""
    try:
        filename, sha256 = json.loads((root / "index" / _key(requirement, target)).read_text(encoding="utf-8"))
        path = root / str(sha256) / Path(str(filename)).name
        found = digest(path)
    except (OSError, ValueError, TypeError):
        return None
    return Wheel(path.name, path, found, path.stat().st_size) if found == sha256 else None


def keep(root: Path, requirement: LockedRequirement, target: Target, file: Path) -> Wheel:
    """Move a checked wheel in from `scratch`, as the answer for this requirement and target."""
    sha256, size = digest(file), file.stat().st_size
    path = root / sha256 / file.name
    path.parent.mkdir(exist_ok=True)
    entry = file.with_name(f"{file.name}.entry")
    entry.write_text(json.dumps([file.name, sha256]), encoding="utf-8")
    index = root / "index" / _key(requirement, target)
    index.parent.mkdir(exist_ok=True)
    file.replace(path)
    entry.replace(index)
    return Wheel(path.name, path, sha256, size)


def digest(path: Path) -> str:
    """The hex SHA-256 of a file, read in pieces, since wheels can have gigabytes."""
    seal = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            seal.update(piece)
    return seal.hexdigest()


def _key(requirement: LockedRequirement, target: Target) -> str:
    """What an answer depends on: the pin, the files the lock allows, and the tags of the target."""
    parts = [str(requirement), *sorted(requirement.hashes), target.identity]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
