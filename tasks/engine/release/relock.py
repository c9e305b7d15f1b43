"""Make the lock for `fab lock`: uv resolves requirements.in for every Python and platform; a rename replaces it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from uv import find_uv_bin

from tasks.engine.errors import UsageError
from tasks.engine.release import index_settings, package_folders
from tasks.engine.release import lockfile as locks

OLDEST = "3.9"
"""The lowest Python to lock for when service.yaml names none."""

_OPTIONS = (
    *("--universal", "--generate-hashes", "--no-header", "--no-emit-index-url", "--no-emit-find-links"),
    *("--no-emit-build-options", "--no-emit-index-annotation", "--color=never", "--no-python-downloads"),
)


@dataclass(frozen=True)
class Change:
    """The change of one package: its versions before and after, none when it is new or gone."""

    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]


def make(root: Path, python: str, *, upgrade: bool = False, packages: Sequence[str] = ()) -> tuple[Change, ...]:
    """Lock `root/service/requirements.in` for `python` (a specifier such as ">=3.9") and return the changes.

    Pins that still fit stay, unless `upgrade` is set or `packages` names them. UsageError when there is nothing to lock
    or no versions agree; the old lock is untouched then.
    """
    folder = root / "service"
    source, target = folder / "requirements.in", folder / "requirements.txt"
    if not source.exists():
        raise _nothing_to_lock(target)
    lowest = lower_bound(python)
    before = locks.content(target) if target.exists() else b""
    # uv would wait for a pipe, and read a device without an end.
    sealed = locks.digest(source)
    with tempfile.TemporaryDirectory(prefix=".part-lock-", dir=root) as scratch:
        draft = Path(scratch) / target.name
        draft.write_bytes(before)
        _compile(root, draft, lowest, ["--upgrade"] if upgrade else [f"--upgrade-package={name}" for name in packages])
        draft.write_text(_head(sealed, lowest) + draft.read_text(encoding="utf-8"), encoding="utf-8", newline="\n")
        after = locks.parse(draft.read_text(encoding="utf-8"), target)
        _refuse_unknown(packages, after)
        if draft.read_bytes() != before:
            draft.replace(target)
    return _compare(_versions_before(before, target), _versions(after))


def lower_bound(python: str) -> str:
    """Return the lowest Python (major.minor) that a specifier allows, "3.9" when it has no lower end."""
    try:
        specifiers = SpecifierSet(python)
    except InvalidSpecifier:
        raise UsageError(
            f"{python!r} is no range of Pythons", where="service/service.yaml (python)", next='write it like ">=3.9"'
        ) from None
    lows = [Version(item.version.removesuffix(".*")) for item in specifiers if item.operator in {">=", "~=", "==", ">"}]
    if not lows:
        return OLDEST
    lowest = max(lows)
    return f"{lowest.major}.{lowest.minor}"


def _compile(root: Path, draft: Path, lowest: str, choices: list[str]) -> None:
    """Run uv on the draft: it reads there the pins to keep, and writes the new lock."""
    indexes = index_settings.find(root / "service")
    command = [find_uv_bin(), "pip", "compile", *_OPTIONS, *choices]
    command += ["--python", sys.executable, "--python-version", lowest, "--output-file", str(draft)]
    command += ["--no-index"] if indexes.alone else []
    environment = indexes.for_uv(draft.parent)
    done = subprocess.run(
        [*command, "service/requirements.in"], cwd=root, env=environment, capture_output=True, check=False
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(
            f"uv could not lock the dependencies for Python {lowest} and later",
            where="service/requirements.in",
            next=f"fix what uv reports, then: fab lock; it asked {indexes}",
            detail=indexes.hide(lines[-20:]),
        )
    draft.write_text(package_folders.complete(draft.read_text(encoding="utf-8"), indexes.folders), encoding="utf-8")


def _refuse_unknown(packages: Sequence[str], lock: locks.Lock) -> None:
    """Raise UsageError for a package to upgrade that the service does not use."""
    known = {entry.name for entry in lock.entries}
    for name in packages:
        if canonicalize_name(name) not in known:
            close = get_close_matches(canonicalize_name(name), sorted(known), n=1)
            raise UsageError(
                f"the service does not use {name}",
                where="--package",
                next=f"did you mean {close[0]}?" if close else "add it to service/requirements.in, then: fab lock",
            )


def _head(sealed: str, lowest: str) -> str:
    return (
        "# Made by `fab lock` from requirements.in; to change it, edit that file and run `fab lock`.\n"
        f"{locks.SOURCE_MARK}{sealed}\n"
        f"{locks.PYTHON_MARK}{lowest}\n"
    )


def _nothing_to_lock(target: Path) -> UsageError:
    """Return the error for a service without requirements.in, with or without a requirements.txt."""
    if not target.exists():
        return UsageError(
            "there is nothing to lock",
            where="service/requirements.in",
            next="write the names of the packages there, one a line; gunicorn is one of them",
        )
    return UsageError(
        "there is a requirements.txt and no requirements.in to make it from",
        where="service/requirements.txt",
        next="git mv service/requirements.txt service/requirements.in, then: fab lock",
    )


def _versions(lock: locks.Lock) -> dict[str, tuple[str, ...]]:
    """Return the versions of each package, one for each marker."""
    by_name: dict[str, set[str]] = {}
    for entry in lock.entries:
        by_name.setdefault(entry.name, set()).add(entry.version)
    return {name: tuple(sorted(versions, key=Version)) for name, versions in by_name.items()}


def _versions_before(content: bytes, target: Path) -> dict[str, tuple[str, ...]]:
    """Return the versions of the old lock; none when it cannot be read as a lock."""
    try:
        return _versions(locks.parse(content.decode(), target))
    except (UsageError, UnicodeDecodeError):
        return {}


def _compare(before: dict[str, tuple[str, ...]], after: dict[str, tuple[str, ...]]) -> tuple[Change, ...]:
    changes = (Change(name, before.get(name, ()), after.get(name, ())) for name in sorted({*before, *after}))
    return tuple(change for change in changes if change.before != change.after)
