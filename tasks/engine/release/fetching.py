"""Fetch the wheels of a lock that the cache lacks, and check them on the controller.

One run of pip fetches them. Only if that fails, each half is tried, down to the requirement that has no wheel. Its
source is built, and the wheel is used if it fits: one with machine code only if this machine is like the target. A
silent package index ends the fetch: each further try would take as long.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from tasks.engine import local_program
from tasks.engine.errors import LoopError, UsageError
from tasks.engine.release import (
    controller,
    index_settings,
    package_folders,
    pip,
    source_packages,
    wheel_cache,
    wheel_info,
)
from tasks.engine.release.indexes import Indexes, local
from tasks.engine.release.lockfile import Lock, LockedRequirement
from tasks.engine.release.python_target import Target
from tasks.engine.release.wheel_cache import Wheel

Say = Callable[[str], None]
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class _Order(NamedTuple):
    """The inputs of one fetch. lock: to be named in errors; say: called with a line before slow work."""

    lock: Lock
    target: Target
    cache: Path
    say: Say
    indexes: Indexes

    @property
    def own(self) -> Iterator[tuple[str, Version, Path]]:
        """The operator's own wheels: name, version and file."""
        folder = local(self.indexes.own)
        return package_folders.packages(folder) if folder else iter(())


def fetch(
    lock: Lock, target: Target, cache: Path, say: Say, service: Path, wanted: Sequence[LockedRequirement]
) -> list[Wheel]:
    """Return the wheels of these requirements, in their order. service: directory of the lock."""
    order = _Order(lock, target, cache, say, index_settings.find(service))
    wheel_info.check(local(order.indexes.own))
    return _obtain(order, wanted)


def _obtain(order: _Order, wanted: Sequence[LockedRequirement], retries: int = 5) -> list[Wheel]:
    """Download all at once; if pip fails, try each half, and build a single requirement from its source."""
    with wheel_cache.scratch(order.cache) as name:
        folder = Path(name)
        outcome = pip.download(wanted, order.target, folder, order.indexes, retries=retries)
        if outcome.done:
            return [_accept(order, item, folder) for item in wanted]
    if outcome.late:
        raise _silent(order, wanted, outcome)
    if len(wanted) == 1 and outcome.broken:
        reason = (
            f"pip cannot read what is fetched for {wanted[0]}; it may use {local_program.MEMORY >> 30} GB of memory"
        )
        raise _unfit(order, wanted[0], reason, outcome.lines)
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


def _keep(order: _Order, wanted: LockedRequirement, file: Path, *, native: bool = False) -> Wheel:
    """Keep a wheel; UsageError if the host could not read it.

    A file whose name has a control character could not stand in the list of a venv.
    """
    try:
        with zipfile.ZipFile(file) as wheel:
            odd = next(filter(_CONTROL.search, wheel.namelist()), None)
            large = wheel_info.fault(wheel)
    except zipfile.BadZipFile:
        raise _unfit(order, wanted, f"what is locked as {wanted} is no wheel: {file.name}") from None
    if odd is not None:
        reason = f"the wheel of {wanted} holds a file whose name has a control character: {odd!r}"
        raise _unfit(order, wanted, reason)
    if large:
        raise _unfit(order, wanted, f"the wheel of {wanted} is too large to be read: {large}")
    return wheel_cache.keep(order.cache, wanted, order.target, file, native=native)


def _unfit(order: _Order, wanted: LockedRequirement, reason: str, lines: tuple[str, ...] = ()) -> UsageError:
    return UsageError(
        reason,
        where=_place(order, wanted),
        next=f"pin another version, or another package, in {order.lock.edit}, then: fab lock",
        detail=lines,
    )


def _build(order: _Order, wanted: LockedRequirement, failed: pip.Outcome) -> Wheel:
    """Build the source of a requirement; keep the wheel if it is pure Python, or if this machine is like the target."""
    here = controller.here()
    alike = here is not None and here.is_like(order.target)
    # A lock names no files, but a package that has wheels beside its source has more than one hash.
    if len(wanted.hashes) > 1 and not alike:
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
            raise _absent(order, wanted, message, (*failed.lines[-3:], *outcome.lines), to_build=alike)
        tags = set(map(str, parse_wheel_filename(file.name)[3]))
        native = tags.isdisjoint(
            f"py{digits}-none-any" for digits in (order.target.minor[0], order.target.minor.replace(".", ""))
        )
        if native and not alike:
            reason = f"{wanted} has no wheel for {order.target}, and its source builds only into {file.name}"
            raise _absent(order, wanted, reason, ())
        return _keep(order, wanted, file, native=native)


def _absent(
    order: _Order, wanted: LockedRequirement, reason: str, lines: tuple[str, ...], *, to_build: bool = False
) -> UsageError:
    """Make the error for a requirement without a wheel. to_build: this machine could build one."""
    own = [file.name for name, _, file in order.own if name == wanted.name]
    like = ", ".join(filter(None, (order.target.distribution, str(order.target))))
    machine = source_packages.to_build(wanted.name) if to_build else f"run this on a machine like the host ({like})"
    return UsageError(
        f"{reason}; service/wheels has {', '.join(own)}" if own else reason,
        where=_place(order, wanted),
        next=f"{source_packages.instead(wanted.name)}put a wheel of it for this target into service/wheels, or pin "
        f"another version in {order.lock.edit}, then: fab lock. Or {machine}. "
        f"Without a network, run this once where there is one: wheels are kept in {order.cache}",
        detail=lines,
    )


def _silent(order: _Order, wanted: Sequence[LockedRequirement], outcome: pip.Outcome) -> LoopError:
    """Make the error of a fetch that we ended: the index may well have the locked file."""
    names = ", ".join(map(str, wanted[:3])) + (", ..." if len(wanted) > 3 else "")
    return LoopError(
        f"the wheels for {order.target} cannot be fetched: {outcome.late} ({names})",
        where=order.lock.path,
        next=f"see whether the package index answers: {order.indexes}. "
        f"If the host has no such Python, look at the host by hand; wheels that came once are kept in {order.cache}",
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
