"""Read the lock, `service/requirements.txt`: every dependency at one version with its hashes. Needs no network.

`fab lock` records at the head of the lock what it was made from (`lock_source`), with a digest, so a stale lock is
found at once.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from tasks.engine.config.sections import DEPENDENCIES, Dependencies
from tasks.engine.errors import UsageError
from tasks.engine.release import lock_source, requirement_lines
from tasks.engine.release.lock_source import Source
from tasks.engine.release.requirement_lines import content, logical_lines, place

_SOURCE = re.compile(r"^# (.+) sha256: ([0-9a-f]{64})$", re.MULTILINE)
PYTHON_MARK = "# lowest python: "

_HASH = re.compile(r"--hash[= ]sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class LockedRequirement:
    """One pin: canonical name, version, PEP 508 marker or None, and the hex SHA-256 of every file that may be used."""

    name: str
    version: str
    marker: str | None
    hashes: tuple[str, ...]
    line: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


class Lock(NamedTuple):
    """The entries in the order of the file, its path, and the lowest Python it was made for, if known.

    edit: where a person adds or pins a package
    """

    entries: tuple[LockedRequirement, ...]
    path: str = "service/requirements.txt"
    lowest: str | None = None
    edit: str = "service/requirements.in"

    def require(self, name: str, reason: str) -> None:
        """Raise UsageError unless some entry has this name; `reason` says what needs it."""
        if all(entry.name != canonicalize_name(name) for entry in self.entries):
            raise UsageError(
                f"the lock has no {name}, and {reason}",
                where=self.path,
                next=f"add {name} to {self.edit}, then: fab lock",
            )


def read(path: Path, wanted: Dependencies = DEPENDENCIES) -> Lock:
    """Read the lock; UsageError with file and line when it is missing, stale, or would install unchecked code.

    wanted: extras and groups that it must have
    """
    source = lock_source.find(path.parent, wanted)
    if not path.exists():
        remedy = "fab lock" if source else "name the dependencies in service/requirements.in, then: fab lock"
        raise UsageError("the dependencies are not locked", where=place(path), next=remedy)
    try:
        text = content(path).decode()
    except UnicodeDecodeError:
        raise UsageError("the lock is not UTF-8", where=place(path), next="fab lock") from None
    if source:
        _refuse_stale(path, source, text)
    return parse(text, path, source)


def parse(text: str, path: Path, source: Source | None) -> Lock:
    """Parse the text of a lock; `path` is its present or future place, for messages."""
    relock = "fab lock" if source else f"git mv service/{path.name} service/requirements.in, then: fab lock"
    entries = tuple(_entry(number, line, path, relock) for number, line in logical_lines(text))
    edit = source.edit if source else f"service/requirements.in ({relock.removesuffix(', then: fab lock')} first)"
    return Lock(entries, place(path), _recorded(text, PYTHON_MARK), edit)


def head(source: Source, lowest: str) -> str:
    """Return the first lines of a lock: what it was made from."""
    those = "those files" if " and " in source.name else "that file"
    return (
        f"# Made by `fab lock` from {source.name}; to change it, edit {those} and run `fab lock`.\n"
        f"# {source.name} sha256: {source.seal}\n"
        f"{PYTHON_MARK}{lowest}\n"
    )


def is_made_here(content: bytes) -> bool:
    """Return True for the content of a lock that `fab lock` made."""
    return _SOURCE.search(content.decode(errors="replace")) is not None


def _refuse_stale(path: Path, source: Source, text: str) -> None:
    """Raise UsageError when the source has changed since this lock was made; a foreign lock records nothing."""
    recorded = _SOURCE.search(text)
    if recorded and recorded.groups() != (source.name, source.seal):
        message = f"the lock was made from {recorded[1]}, and there is {source.name} now"
        if recorded[1] == source.name:
            chosen = "" if source.name == lock_source.REQUIREMENTS else ", or `dependencies` of service.yaml,"
            message = f"{source.name}{chosen} has changed since the lock was made"
        raise UsageError(message, where=place(path), next="fab lock")


def _recorded(text: str, mark: str) -> str | None:
    """Return the text that `fab lock` wrote after this mark."""
    return next((line.removeprefix(mark).strip() for line in text.splitlines() if line.startswith(mark)), None)


def _entry(number: int, line: str, path: Path, relock: str) -> LockedRequirement:
    """Return the pin of one logical line."""
    where = f"{place(path)}:{number}:1"
    named = requirement_lines.address(line)
    if named:
        raise cannot_hold(named, where, relock)
    if line.startswith("-"):
        option = re.split(r"[\s=]", line)[0]
        raise UsageError(
            f"a lock cannot hold the option {option}",
            where=where,
            next="move the line to service/requirements.in, then: fab lock" if relock == "fab lock" else relock,
        )
    head, *options = requirement_lines.options(line)
    try:
        requirement = Requirement(head)
    except InvalidRequirement:
        raise UsageError(f"this is no pinned requirement: {head}", where=where, next=relock) from None
    hashes = [match[1] for match in map(_HASH.fullmatch, options) if match]
    if not hashes or len(hashes) != len(options):
        raise UsageError(f"{requirement.name} has no sha256 hash in the lock", where=where, next=relock)
    marker = str(requirement.marker) if requirement.marker else None
    return LockedRequirement(
        canonicalize_name(requirement.name), _pin(requirement, where, relock), marker, tuple(hashes), number
    )


def _pin(requirement: Requirement, where: str, relock: str) -> str:
    """Return the one version that a requirement allows."""
    specifiers = list(requirement.specifier)
    if len(specifiers) != 1 or specifiers[0].operator != "==" or specifiers[0].version.endswith("*"):
        raise UsageError(f"{requirement.name} is not pinned to one version with ==", where=where, next=relock)
    return specifiers[0].version


def cannot_hold(named: str, where: str, relock: str = "fab lock") -> UsageError:
    """Return the error for an address, a file or a directory in place of a version. relock: commands to run at last."""
    last = relock.rpartition("then: ")[2]
    if requirement_lines.is_directory(named):
        way = (
            "remove the line, name the folder of that code in `pythonpath` of service.yaml, and write its requirements "
        )
        return UsageError(f"a lock cannot hold a directory: {named}", where=where, next=f"{way}here, then: {last}")
    way = (
        f"name a version of the package instead, and put its wheel into service/wheels if no index has it, then: {last}"
    )
    return UsageError(f"a lock cannot hold an address or a file: {named}", where=where, next=way)


def pins(text: str) -> str:
    """Return the pins of any lock with their hashes, one a line, without what cannot be read (marks of a conflict)."""
    kept: dict[str, str] = {}
    for _, line in logical_lines(text):
        with suppress(InvalidRequirement, UsageError):
            head, *options = requirement_lines.options(line)
            requirement = Requirement(head)
            _pin(requirement, "", "")
            hashes = filter(_HASH.fullmatch, options)
            kept.setdefault(f"{canonicalize_name(requirement.name)} ; {requirement.marker}", " ".join([head, *hashes]))
    return "".join(f"{line}\n" for line in kept.values())
