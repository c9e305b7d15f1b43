"""Fill the wheelhouse: every wheel that a lock needs on one target, fetched and checked on the controller.

Wheels of the cache need no network; one run of pip fetches the rest. Only if that fails, each half is tried, down to
the requirement that has no wheel. If the lock has only the source of it, that is built, and the wheel is used if it is
pure Python. A silent package index ends the fetch: each further try would take as long.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from tasks.engine.errors import LoopError, UsageError
from tasks.engine.release import index_settings, pip, wheel_cache
from tasks.engine.release.indexes import Indexes
from tasks.engine.release.lockfile import Lock, LockedRequirement
from tasks.engine.release.python_target import Target, select
from tasks.engine.release.wheel_cache import Wheel

Say = Callable[[str], None]
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Wheelhouse(NamedTuple):
    """The wheels by file name, and their digest (hex SHA-256), which names the venv made of them for this target."""

    digest: str
    wheels: tuple[Wheel, ...]


class _Order(NamedTuple):
    """The inputs of one fetch. lock: to be named in errors; say: told of slow work."""

    lock: Lock
    target: Target
    cache: Path
    say: Say
    indexes: Indexes


def fetch(lock: Lock, target: Target, say: Say, service: Path, cache: Path | None = None) -> Wheelhouse:
    """Fetch the wheelhouse of `lock` for `target`; report slow work to `say`. service: directory of the lock.

    UsageError when a requirement has no wheel for this target, LoopError when the lock lacks a fetched file's hash.
    """
    root = cache or wheel_cache.default_root()
    wanted = select(lock, target)
    kept = {item.name: wheel_cache.take(root, item, target) for item in wanted}
    missing = [item for item in wanted if kept[item.name] is None]
    wheels = [wheel for wheel in kept.values() if wheel]
    if missing:
        say(f"fetching {len(missing)} of {len(wanted)} wheels for {target}")
        wheels += _obtain(_Order(lock, target, root, say, index_settings.find(service)), missing)
    wheels.sort(key=lambda wheel: wheel.filename)
    return Wheelhouse(_digest(wheels, target), tuple(wheels))


def _digest(wheels: Sequence[Wheel], target: Target) -> str:
    lines = [f"{wheel.sha256} {wheel.filename}\n" for wheel in wheels]
    return hashlib.sha256("".join([*lines, target.identity]).encode()).hexdigest()


def _obtain(order: _Order, wanted: Sequence[LockedRequirement], retries: int = 5) -> list[Wheel]:
    """Download all at once; if pip fails, try each half, and build a single requirement from its source."""
    with wheel_cache.scratch(order.cache) as name:
        folder = Path(name)
        outcome = pip.download(wanted, order.target, folder, order.indexes, retries=retries)
        if outcome.done:
            return [_accept(order, item, folder) for item in wanted]
    if outcome.late:
        raise _silent(order, wanted, outcome)
    if len(wanted) == 1:
        return [_build(order, wanted[0], outcome)]
    middle = len(wanted) // 2
    return _obtain(order, wanted[:middle], retries=1) + _obtain(order, wanted[middle:], retries=1)


def _accept(order: _Order, wanted: LockedRequirement, folder: Path) -> Wheel:
    """Keep the wheel that pip downloaded for a requirement, if the lock has its hash."""
    file = _find(folder, wanted)
    if file is None or wheel_cache.digest(file) not in wanted.hashes:
        raise LoopError(
            f"the file fetched for {wanted} is not one that the lock allows",
            where=_place(order, wanted),
            next="fab lock; if this comes back, look at what the package index serves",
            code="hash",
        )
    return _keep(order, wanted, file)


def _keep(order: _Order, wanted: LockedRequirement, file: Path) -> Wheel:
    """Keep a wheel; UsageError if a name in it has a control character, which the list of a venv cannot hold."""
    try:
        with zipfile.ZipFile(file) as wheel:
            odd = next(filter(_CONTROL.search, wheel.namelist()), None)
    except zipfile.BadZipFile:
        raise _unfit(order, wanted, f"what is locked as {wanted} is no wheel: {file.name}") from None
    if odd is not None:
        told = f"the wheel of {wanted} holds a file whose name has a control character: {odd!r}"
        raise _unfit(order, wanted, told)
    return wheel_cache.keep(order.cache, wanted, order.target, file)


def _unfit(order: _Order, wanted: LockedRequirement, told: str) -> UsageError:
    return UsageError(
        told,
        where=_place(order, wanted),
        next="pin another version, or another package, in service/requirements.in, then: fab lock",
    )


def _build(order: _Order, wanted: LockedRequirement, failed: pip.Outcome) -> Wheel:
    """Build the source of a requirement that is locked as source alone; keep the wheel if it is pure Python."""
    # A lock names no files, but a package that has wheels beside its source has more than one hash.
    if len(wanted.hashes) > 1:
        raise _absent(order, wanted, f"no wheel of {wanted} for {order.target} could be fetched", failed.lines)
    order.say(f"no wheel of {wanted} for {order.target}: trying to build one from its source")
    with wheel_cache.scratch(order.cache) as name:
        folder = Path(name)
        outcome = pip.build(wanted, folder, order.indexes)
        file = _find(folder, wanted)
        if outcome.late:
            raise _silent(order, [wanted], outcome)
        if not outcome.done or file is None:
            message = f"no wheel of {wanted} for {order.target} could be fetched, or built from source"
            raise _absent(order, wanted, message, (*failed.lines[-3:], *outcome.lines))
        _, _, _, tags = parse_wheel_filename(file.name)
        pure = {f"py{digits}-none-any" for digits in (order.target.minor[0], order.target.minor.replace(".", ""))}
        if pure.isdisjoint(map(str, tags)):
            told = f"{wanted} has no wheel for {order.target}, and its source builds only into {file.name}"
            raise _unfit(order, wanted, told)
        return _keep(order, wanted, file)


def _absent(order: _Order, wanted: LockedRequirement, message: str, lines: tuple[str, ...]) -> UsageError:
    return UsageError(
        message,
        where=_place(order, wanted),
        next=f"without a network, run this once where there is one: wheels are kept in {order.cache}; "
        "with one, pin a version that has a wheel for this target in service/requirements.in, then: fab lock",
        detail=lines,
    )


def _silent(order: _Order, wanted: Sequence[LockedRequirement], outcome: pip.Outcome) -> LoopError:
    """Make the error of a fetch that we ended: the index may well have the locked file."""
    names = ", ".join(map(str, wanted[:3])) + (", ..." if len(wanted) > 3 else "")
    return LoopError(
        f"the wheels for {order.target} cannot be fetched: {outcome.late} ({names})",
        where=order.lock.path,
        next=f"see whether the package index answers: {order.indexes}. "
        f"If the host has no such Python, look at it by hand; wheels that came once are kept in {order.cache}",
        code="index",
        detail=outcome.lines,
    )


def _find(folder: Path, wanted: LockedRequirement) -> Path | None:
    """Return the wheel of a requirement in a directory, if it is there."""
    for file in sorted(folder.glob("*.whl")):
        try:
            name, version, _, _ = parse_wheel_filename(file.name)
        except InvalidWheelFilename:
            continue
        if (name, version) == (wanted.name, Version(wanted.version)):
            return file
    return None


def _place(order: _Order, wanted: LockedRequirement) -> str:
    return f"{order.lock.path}:{wanted.line}:1"
