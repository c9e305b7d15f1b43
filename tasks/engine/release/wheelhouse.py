"""Fill the wheelhouse: every wheel that a lock needs on one target, from the cache, or else fetched."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from tasks.engine.release import shared_libraries, wheel_cache
from tasks.engine.release.lockfile import Lock
from tasks.engine.release.python_target import Target, select
from tasks.engine.release.wheel_cache import Wheel

if TYPE_CHECKING:
    from tasks.engine.release.fetching import Say


class Wheelhouse(NamedTuple):
    """The wheels by file name, and their digest (hex SHA-256), which names the venv made of them for this target.

    built: the requirements whose wheel this machine built
    libraries: shared libraries that the wheels need of the host's system, each with the folders that a wheel names
    """

    digest: str
    wheels: tuple[Wheel, ...]
    built: tuple[str, ...] = ()
    libraries: Mapping[str, tuple[str, ...]] = MappingProxyType({})


def fetch(lock: Lock, target: Target, say: Say, service: Path, cache: Path | None = None) -> Wheelhouse:
    """Fetch the wheelhouse of `lock` for `target`; report slow work to `say`. service: directory of the lock.

    UsageError when a requirement has no wheel for this target, LoopError when the lock lacks a fetched file's hash.
    """
    root = cache or wheel_cache.default_root()
    wanted = select(lock, target)
    kept = {item.name: wheel_cache.take(root, item, target) for item in wanted}
    missing = [item for item in wanted if kept[item.name] is None]
    found = {item: wheel for item in wanted if (wheel := kept[item.name])}
    if missing:
        say(f"fetching {len(missing)} of {len(wanted)} wheels for {target}")
        # Most runs have all wheels, and these modules read settings of package indexes and run pip.
        from tasks.engine.release import fetching

        found |= zip(missing, fetching.fetch(lock, target, root, say, service, missing), strict=True)
    wheels = sorted(found.values(), key=lambda wheel: wheel.filename)
    # A lock has the hashes of all files that may be fetched.
    built = sorted(str(item) for item, wheel in found.items() if wheel.sha256 not in item.hashes)
    libraries = shared_libraries.needed(wheel.path for wheel in wheels)
    return Wheelhouse(_digest(wheels, target), tuple(wheels), tuple(built), libraries)


def _digest(wheels: Sequence[Wheel], target: Target) -> str:
    lines = [f"{wheel.sha256} {wheel.filename}\n" for wheel in wheels]
    return hashlib.sha256("".join([*lines, target.identity]).encode()).hexdigest()
