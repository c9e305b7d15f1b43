"""Make the lock for `fab lock`; a rename replaces the former one.

uv resolves requirements.in and pyproject.toml for every Python and platform. The versions and hashes of uv.lock or
pylock.toml are taken as they are.
"""

from __future__ import annotations

import signal
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

from tasks.engine import local_program
from tasks.engine.config.sections import DEPENDENCIES, Dependencies
from tasks.engine.errors import UsageError
from tasks.engine.release import (
    index_settings,
    lock_source,
    package_folders,
    pylock,
    pyproject,
    requirement_lines,
    wheel_info,
)
from tasks.engine.release import lockfile as locks
from tasks.engine.release.indexes import Indexes, local
from tasks.engine.release.lock_source import Source
from tasks.engine.release.pyproject import Project

_SECONDS = 1800
"""Seconds that uv may take: an index may answer it slowly, or without an end."""
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


def make(
    root: Path,
    python: str,
    wanted: Dependencies = DEPENDENCIES,
    *,
    upgrade: bool = False,
    packages: Sequence[str] = (),
) -> tuple[Change, ...]:
    """Lock what `root/service` requires for `python` (a specifier such as ">=3.9") and return the changes.

    wanted: extras and groups to lock, too. Pins that still fit stay, unless `upgrade` is set or `packages` names them.
    UsageError when there is nothing to lock or no versions agree; the old lock is untouched then.
    """
    folder, target = root / "service", root / "service" / "requirements.txt"
    wanted = lock_source.normalized(wanted)
    # This reads the sources first, and refuses a pipe or a device, at which uv would hang.
    source = lock_source.find(folder, wanted)
    if source is None:
        raise _nothing_to_lock(target)
    lowest = lower_bound(python)
    if source.project:
        _refuse_older(pyproject.NAME, source.project.python, lowest)
    before = requirement_lines.content(target) if target.exists() else b""
    _refuse_to_replace(before, target, source)
    with tempfile.TemporaryDirectory(prefix=".part-lock-", dir=root) as scratch:
        draft = Path(scratch) / target.name
        if source.made_elsewhere:
            _refuse_choices(source, upgrade=upgrade, packages=packages)
            _convert(folder, source, draft, lowest, wanted)
        else:
            choices = ["--upgrade"] if upgrade else [f"--upgrade-package={name}" for name in packages]
            _compile(root, source, draft, before, lowest, [*choices, *_wanted(source, wanted)])
        after = _parsed(draft, target, source)
        _refuse_unknown(packages, after)
        draft.write_text(locks.head(source, lowest) + draft.read_text(encoding="utf-8"), encoding="utf-8", newline="\n")
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


def _refuse_to_replace(before: bytes, target: Path, source: Source) -> None:
    """Refuse to replace a requirements.txt that is no lock of ours, unless requirements.in says what is needed."""
    if before and lock_source.REQUIREMENTS not in source.files and not locks.is_made_here(before):
        raise UsageError(
            f"fab lock did not make this file, and would replace it by the lock of {source.name}",
            where=f"service/{target.name}",
            next=f"git mv service/{target.name} service/{lock_source.REQUIREMENTS} if the service needs what it names, "
            "or git rm it; then: fab lock",
        )


def _compile(root: Path, source: Source, draft: Path, before: bytes, lowest: str, choices: list[str]) -> None:
    """Run uv on the draft, where it reads the pins to keep and writes the new lock. before: the former lock."""
    # uv refuses a lock with the marks of a merge conflict, and would apply options that stand in the lock.
    draft.write_text(locks.pins(before.decode(errors="replace")), encoding="utf-8")
    if lock_source.REQUIREMENTS in source.files:
        _require_names(root / "service" / lock_source.REQUIREMENTS, source.project)
    command = ["pip", "compile", *_OPTIONS, *choices]
    command += ["--python", sys.executable, "--python-version", lowest, "--output-file", str(draft)]
    failed = f"uv could not lock the dependencies for Python {lowest} and later"
    indexes = index_settings.find(root / "service")
    wheel_info.check(local(indexes.own))
    command += ["--no-index"] if indexes.alone else []
    _run([*command, *(f"service/{name}" for name in source.files)], root, source, indexes, draft, failed)


def _wanted(source: Source, wanted: Dependencies) -> list[str]:
    """Return uv's options for extras and groups of pyproject.toml."""
    if source.project is None:
        return []
    groups = [f"--group=service/{pyproject.NAME}:{name}" for name in wanted.groups]
    return [*(f"--extra={name}" for name in wanted.extras), *groups]


def _convert(folder: Path, source: Source, draft: Path, lowest: str, wanted: Dependencies) -> None:
    """Write the versions and hashes of uv.lock or pylock.toml into the draft."""
    if source.name == lock_source.PYLOCK:
        text, python = pylock.convert(folder / source.name, wanted)
        _refuse_older(source.name, python, lowest)
        draft.write_text(text, encoding="utf-8")
        return
    # --locked: uv refuses if pyproject.toml has changed since. It asks no index otherwise.
    command = ["export", "--locked", "--no-emit-project", "--no-default-groups", "--no-header", "--color=never"]
    command += ["--no-python-downloads", "--format=requirements.txt", f"--output-file={draft}"]
    command += [f"--extra={name}" for name in wanted.extras] + [f"--group={name}" for name in wanted.groups]
    indexes = index_settings.find(folder)
    _run(
        command, folder, source, indexes, draft, "uv could not read uv.lock; run uv lock if pyproject.toml has changed"
    )


def _run(words: list[str], folder: Path, source: Source, indexes: Indexes, draft: Path, failed: str) -> None:
    """Run uv in a directory: it writes the draft. UsageError with the last lines of its output if it fails."""
    environment = indexes.for_uv(draft.parent)
    done = local_program.run(
        [find_uv_bin(), *words], folder=folder, environment=environment, seconds=_SECONDS, limited=True
    )
    if done.status != 0:
        ours = not source.made_elsewhere and any("`requires-python`" in line for line in done.lines)
        range_ = "; its requires-python is `python` of service.yaml" if ours else ""
        failed += f": {done.fault(f'{_SECONDS} s')}" if done.status is None else ""
        if done.status == -signal.SIGABRT:
            gigabytes = local_program.MEMORY >> 30
            range_ += f". It may use {gigabytes} GB of memory; uv pip compile -v names the package that takes more"
        raise UsageError(
            failed,
            where=f"service/{source.files[0]}",
            next=f"fix what uv reports, then: fab lock{range_}; it asked {indexes}",
            detail=indexes.hide(done.lines),
        )
    draft.write_text(package_folders.complete(draft.read_text(encoding="utf-8"), indexes.folders), encoding="utf-8")


def _refuse_choices(source: Source, *, upgrade: bool, packages: Sequence[str]) -> None:
    """Refuse to choose other versions than those of the source: the program that made it has chosen them."""
    if upgrade or packages:
        words = " ".join(f"--upgrade-package {name}" for name in packages) or "--upgrade"
        raise UsageError(
            f"the versions are those of {source.name}",
            where="--upgrade" if upgrade else "--package",
            next=f"uv lock {words}, then: fab lock" if source.name == lock_source.UV else f"make {source.name} anew",
        )


def _refuse_older(file: str, needed: str | None, lowest: str) -> None:
    """Refuse a Python for which the versions in `file` are not made. needed: the versions of Python that it names."""
    try:
        fits = not needed or any(f"{lowest}.{patch}" in SpecifierSet(needed) for patch in range(100))
    except InvalidSpecifier:
        return
    if not fits:
        raise UsageError(
            f"{file} requires Python {needed}, and service.yaml allows {lowest}",
            where="service/service.yaml (python)",
            next=f'set `python: "{needed}"` there, then: fab lock',
        )


def _require_names(source: Path, project: Project | None) -> None:
    """Refuse an address, a file or a directory in requirements.in, where it stands: uv would carry it into the lock."""
    for path, data in requirement_lines.files(source):
        for number, line in requirement_lines.logical_lines(data.decode(errors="replace")):
            named = requirement_lines.address(line)
            if not named:
                continue
            where = f"{requirement_lines.place(path)}:{number}:1"
            if project and named.partition("[")[0].strip("./") in {"", "service"}:
                way = (
                    "remove the line: `fab lock` reads pyproject.toml itself, and `dependencies` of service.yaml names "
                )
                message = f"a lock cannot hold the project itself: {named}"
                raise UsageError(message, where=where, next=f"{way}its extras")
            raise locks.cannot_hold(named, where)


def _parsed(draft: Path, target: Path, source: Source) -> locks.Lock:
    """Parse the new lock; UsageError if a package that another one requires cannot be in a lock."""
    text, where = draft.read_text(encoding="utf-8"), f"service/{source.files[0]}"
    for _, line in requirement_lines.logical_lines(text):
        named = requirement_lines.address(line)
        if named and requirement_lines.is_directory(named):
            raise UsageError(
                f"{source.name} leads to a directory, which a lock cannot hold: {named}",
                where=where,
                next="remove it there, name the folder of its code in `pythonpath` of service.yaml, and its "
                "requirements in its place",
            )
    try:
        return locks.parse(text, target, source)
    except UsageError as error:
        raise UsageError(
            f"there are versions, but {error.message}",
            where=where,
            next="name other versions or packages there, then: fab lock",
        ) from None


def _refuse_unknown(packages: Sequence[str], lock: locks.Lock) -> None:
    """Raise UsageError for a package to upgrade that the service does not use."""
    known = {entry.name for entry in lock.entries}
    for name in packages:
        if canonicalize_name(name) not in known:
            close = get_close_matches(canonicalize_name(name), sorted(known), n=1)
            raise UsageError(
                f"the service does not use {name}",
                where="--package",
                next=f"did you mean {close[0]}?" if close else f"add it to {lock.edit}, then: fab lock",
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
        return _versions(locks.parse(content.decode(), target, None))
    except (UsageError, UnicodeDecodeError):
        return {}


def _compare(before: dict[str, tuple[str, ...]], after: dict[str, tuple[str, ...]]) -> tuple[Change, ...]:
    changes = (Change(name, before.get(name, ()), after.get(name, ())) for name in sorted({*before, *after}))
    return tuple(change for change in changes if change.before != change.after)
