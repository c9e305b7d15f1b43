"""Write pylock.toml (PEP 751) as a requirements file with hashes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from packaging.markers import Marker
from packaging.pylock import Package, Pylock, PylockValidationError
from packaging.utils import canonicalize_name

from tasks.engine.config.sections import Dependencies
from tasks.engine.errors import UsageError
from tasks.engine.release import lockfile, pyproject, requirement_lines

_CHOICE = re.compile(r'"([^"]*)" (not in|in) (extras|dependency_groups)')
_ALWAYS, _NEVER = 'python_version >= "0"', 'python_version < "0"'


def convert(path: Path, wanted: Dependencies) -> tuple[str, str | None]:
    """Return the packages of a lock for these extras and groups, each with the hashes of all its files.

    The second value is the versions of Python that it was made for, if it says so.
    """
    where = requirement_lines.place(path)
    try:
        lock = Pylock.from_dict(pyproject.parse(path))
    except PylockValidationError as error:
        raise UsageError(f"it is no pylock.toml: {error}", where=where, next="make it anew") from None
    pyproject.require_known(wanted.extras, lock.extras or (), "extras", path.name)
    pyproject.require_known(wanted.groups, lock.dependency_groups or (), "groups", path.name)
    groups = wanted.groups or tuple(map(canonicalize_name, lock.default_groups or ()))
    chosen = Dependencies(wanted.extras, groups)
    text = "".join(line for package in lock.packages for line in _lines(package, chosen, where))
    return text, str(lock.requires_python) if lock.requires_python else None


def _lines(package: Package, chosen: Dependencies, where: str) -> Iterator[str]:
    direct = package.directory or package.vcs or package.archive
    # The project itself, which a release carries.
    if package.directory and Path(package.directory.path) == Path():
        return
    if direct:
        named = package.directory.path if package.directory else f"{package.name} @ https://"
        raise lockfile.cannot_hold(named, f"{where} ({package.name})", "make the lock anew, then: fab lock")
    listed = [file.hashes for file in package.wheels or ()] + ([package.sdist.hashes] if package.sdist else [])
    hashes = sorted({found["sha256"].lower() for found in listed if "sha256" in found})
    if not hashes or package.version is None:
        raise UsageError(
            f"{package.name} has no version, or no file with a sha256 hash",
            where=where,
            next="make the lock anew with hashes, then: fab lock",
        )
    marker = f" ; {_without_choices(package.marker, chosen)}" if package.marker else ""
    yield f"{package.name}=={package.version}{marker}"
    yield from (f" \\\n    --hash=sha256:{one}" for one in hashes)
    yield "\n"


def _without_choices(marker: Marker, chosen: Dependencies) -> str:
    """Return the marker with `"x" in extras` and the like replaced by their values."""

    def value(match: re.Match[str]) -> str:
        names = chosen.extras if match[3] == "extras" else chosen.groups
        return _ALWAYS if (canonicalize_name(match[1]) in names) == (match[2] == "in") else _NEVER

    return _CHOICE.sub(value, str(marker))
