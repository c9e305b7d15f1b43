"""Keep wheels on the controller between runs, each under its SHA-256, and check the digest at each use.

`HEX/FILENAME` are the wheels; `index/KEY` names the wheel of a requirement for a target. A wheel that was built here
has code for this distribution alone, so it has a key of its own. Concurrent runs are safe, since everything is written
aside and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from tasks.engine import plain_file
from tasks.engine.release.lockfile import LockedRequirement
from tasks.engine.release.python_target import Target


class Wheel(NamedTuple):
    """One wheel on disk: its file name, path, hex SHA-256, and size in bytes."""

    filename: str
    path: Path
    sha256: str
    size: int


def default_root() -> Path:
    """Return `$XDG_CACHE_HOME/integrators-loop/wheels`, or the same under `~/.cache`."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if Path(given).is_absolute() else Path.home() / ".cache") / "integrators-loop" / "wheels"


def scratch(root: Path) -> tempfile.TemporaryDirectory[str]:
    """Make a temporary directory on the same filesystem; the end of its `with` block removes it."""
    root.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=".part-", dir=root)


def take(root: Path, requirement: LockedRequirement, target: Target) -> Wheel | None:
    """Return the wheel kept for a requirement; None when there is none or its content has changed."""
    return _take(root, _key(requirement, target.identity)) or _take(root, _key(requirement, target.place))


def _take(root: Path, key: str) -> Wheel | None:
    try:
        filename, sha256 = json.loads(plain_file.read(root / "index" / key))
        path = root / str(sha256) / Path(str(filename)).name
        actual = digest(path)
    except (OSError, ValueError, TypeError):
        return None
    return Wheel(path.name, path, actual, path.stat().st_size) if actual == sha256 else None


def keep(root: Path, requirement: LockedRequirement, target: Target, file: Path, *, native: bool = False) -> Wheel:
    """Move a checked wheel from `scratch` into the cache, as the wheel of this requirement and target.

    native: it was built for the target's distribution alone
    """
    sha256, size = digest(file), file.stat().st_size
    path = root / sha256 / file.name
    path.parent.mkdir(exist_ok=True)
    entry = file.with_name(f"{file.name}.entry")
    entry.write_text(json.dumps([file.name, sha256]), encoding="utf-8")
    index = root / "index" / _key(requirement, target.place if native else target.identity)
    index.parent.mkdir(exist_ok=True)
    file.replace(path)
    entry.replace(index)
    return Wheel(path.name, path, sha256, size)


def digest(path: Path) -> str:
    """Return the hex SHA-256 of a file; read it in pieces, since wheels can have gigabytes."""
    seal = hashlib.sha256()
    with plain_file.opened(path) as stream:
        while piece := stream.read(1 << 20):
            seal.update(piece)
    return seal.hexdigest()


def _key(requirement: LockedRequirement, target: str) -> str:
    """Return the key of the index: a digest of the pin, the files that the lock allows, and the target."""
    parts = [str(requirement), *sorted(requirement.hashes), target]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
