"""Read the lock, `service/requirements.txt`: every dependency at one version with its hashes. Needs no network.

A person writes `requirements.in` beside it. `fab lock` records the digest of that file at the head of the lock, so a
stale lock is found at once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from tasks.engine import plain_file
from tasks.engine.errors import UsageError

SOURCE_MARK = "# requirements.in sha256: "
PYTHON_MARK = "# lowest python: "

_HASH = re.compile(r"--hash[= ]sha256:([0-9a-f]{64})")
_INCLUDE = re.compile(r"\s*(?:-r|-c|--requirement|--constraint)[\s=]*(\S+)")
_ADDRESS = re.compile(r"(-e\b|--editable\b|\.{0,2}/|[A-Za-z+]+://|git\+)")


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
    """The entries in the order of the file, its path, and the lowest Python it was made for, if known."""

    entries: tuple[LockedRequirement, ...]
    path: str = "service/requirements.txt"
    lowest: str | None = None

    def require(self, name: str, reason: str) -> None:
        """Raise UsageError unless some entry has this name; `reason` says what needs it."""
        if all(entry.name != canonicalize_name(name) for entry in self.entries):
            raise UsageError(
                f"the lock has no {name}, and {reason}",
                where=self.path,
                next=f"add {name} to service/requirements.in, then: fab lock",
            )


def read(path: Path) -> Lock:
    """Read the lock; UsageError with file and line when it is missing, stale, or would install unchecked code."""
    source = path.with_name("requirements.in")
    if not path.exists():
        remedy = "fab lock" if source.exists() else f"name the dependencies in service/{source.name}, then: fab lock"
        raise UsageError("the dependencies are not locked", where=_place(path), next=remedy)
    try:
        text = content(path).decode()
    except UnicodeDecodeError:
        raise UsageError("the lock is not UTF-8", where=_place(path), next="fab lock") from None
    _refuse_stale(path, source, text)
    return parse(text, path)


def content(path: Path) -> bytes:
    """Read a lock or a source of one; UsageError if it is not a regular file, or cannot be read."""
    try:
        return plain_file.read(path)
    except OSError as error:
        told = error.strerror or str(error)
        raise UsageError(
            f"the file cannot be read: {told}", where=_place(path), next="put a plain file of requirements in its place"
        ) from error


def parse(text: str, path: Path) -> Lock:
    """Parse the text of a lock; `path` is its present or future place, for messages."""
    source = path.with_name("requirements.in")
    relock = "fab lock" if source.exists() else f"git mv service/{path.name} service/{source.name}, then: fab lock"
    entries = tuple(_entry(number, line, path, relock) for number, line in logical_lines(text))
    return Lock(entries, _place(path), _recorded(text, PYTHON_MARK))


def digest(source: Path) -> str:
    """Return the hex SHA-256 over requirements.in and the files it includes; line endings do not count.

    UsageError if one of them is no regular file.
    """
    seal = hashlib.sha256()
    for _, data in sources(source):
        seal.update(hashlib.sha256(data).digest())
    return seal.hexdigest()


def sources(source: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield requirements.in and the files it includes, each with its content, lines ending in a newline alone."""
    waiting, seen = [source], set()
    while waiting:
        current = waiting.pop()
        if current in seen or not current.exists():
            continue
        seen.add(current)
        data = content(current).replace(b"\r\n", b"\n")
        yield current, data
        included = map(_INCLUDE.match, data.decode(errors="replace").splitlines())
        waiting += [current.parent / match[1] for match in included if match]


def _refuse_stale(path: Path, source: Path, text: str) -> None:
    """Raise UsageError when requirements.in has changed since this lock was made; a foreign lock records nothing."""
    if not source.exists():
        return
    recorded = _recorded(text, SOURCE_MARK)
    if recorded and recorded != digest(source):
        raise UsageError(
            "requirements.in has changed since the lock was made",
            where=_place(path),
            next="fab lock",
        )


def _recorded(text: str, mark: str) -> str | None:
    """Return the text that `fab lock` wrote after this mark."""
    return next((line.removeprefix(mark).strip() for line in text.splitlines() if line.startswith(mark)), None)


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the number and text of each requirement or option: continuation lines joined, comments left out."""
    start, joined = 0, ""
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        content = re.sub(r"(^|\s)#.*", "", line).strip()
        start = start or number
        joined = f"{joined} {content.removesuffix(chr(92)).strip()}".strip()
        if content.endswith("\\"):
            continue
        if joined:
            yield start, joined
        start, joined = 0, ""


def _entry(number: int, line: str, path: Path, relock: str) -> LockedRequirement:
    """Return the pin of one logical line."""
    where = f"{_place(path)}:{number}:1"
    if _ADDRESS.match(line):
        raise UsageError(
            "a lock cannot hold an address, a directory or an editable", where=where, next=_by_name(relock)
        )
    if line.startswith("-"):
        option = re.split(r"[\s=]", line)[0]
        raise UsageError(
            f"a lock cannot hold the option {option}",
            where=where,
            next="move the line to service/requirements.in, then: fab lock" if relock == "fab lock" else relock,
        )
    head, *options = re.split(r"\s+(?=--)", line)
    try:
        requirement = Requirement(head)
    except InvalidRequirement:
        raise UsageError(f"this is no pinned requirement: {head}", where=where, next=relock) from None
    if requirement.url:
        raise UsageError("a lock cannot hold an address", where=where, next=_by_name(relock))
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


def _by_name(relock: str) -> str:
    return f"name a released version of the package instead, then: {relock.rpartition('then: ')[2]}"


def _place(path: Path) -> str:
    """Return the path relative to the checkout."""
    return f"{path.parent.name}/{path.name}"
