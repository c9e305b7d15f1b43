"""Collect the files of a release, with their sizes and digests, and pack them into one reproducible tar.

A release holds the files that git tracks or would track under `service/`. A file that could leak a secret or could not
be rebuilt the same elsewhere (links, devices, odd names) is refused by name, all at once, before any connection.
"""

from __future__ import annotations

import hashlib
import re
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tasks.engine import plain_file
from tasks.engine.errors import UsageError
from tasks.engine.release import file_rules, git
from tasks.engine.release.file_rules import Refusal

_BLOCK, _RECORD = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
_MANIFEST_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


class Entry(NamedTuple):
    """One file: its path below `service/` with forward slashes, size in bytes, and hex SHA-256."""

    path: str
    source: Path
    executable: bool
    size: int
    sha256: str

    @property
    def mode(self) -> int:
        """0o755 or 0o644; the rest of the file's mode is dropped, so that no umask changes a release."""
        return 0o755 if self.executable else 0o644

    def read(self) -> bytes:
        """Return the bytes that were hashed; UsageError when the file has changed since."""
        try:
            data = plain_file.read(self.source, follow=False)
        except OSError:
            data = b""
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise UsageError(
                "the file changed while the release was being made",
                where=f"service/{self.path}",
                next="run the command again",
            )
        return data


class Tree(NamedTuple):
    """The entries of a release, sorted by path."""

    entries: tuple[Entry, ...]


def collect(root: Path) -> Tree:
    """Return the files of `root/service`; UsageError names every one that cannot go into a release."""
    folder = root / "service"
    # Committed bytecode stays out: the host makes its own, under the same names.
    examined = [_examine(folder, name) for name in git.files(root) if not name.endswith(b".pyc")]
    refused = [item for item in examined if isinstance(item, Refusal)]
    entries = [item for item in examined if isinstance(item, Entry)]
    refused += file_rules.check_distinct(entry.path for entry in entries)
    if refused:
        raise _error(refused)
    if not entries:
        raise UsageError(
            "service/ holds no file that git tracks or would track",
            where="service/",
            next="put the service there; `git status --ignored service` shows what git leaves out",
        )
    return Tree(tuple(sorted(entries, key=lambda entry: entry.path)))


def manifest(entries: Iterable[Entry]) -> bytes:
    """Write the entries as `sha256sum -c` reads them, sorted by path."""
    lines = sorted((entry.path, entry.sha256) for entry in entries)
    return "".join(f"{sha256}  {path}\n" for path, sha256 in lines).encode()


def parse_manifest(text: str) -> dict[str, str]:
    """Return the path and hex SHA-256 of each line that `manifest` wrote; ValueError on anything else."""
    digests: dict[str, str] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], start=1):
        match = _MANIFEST_LINE.fullmatch(line)
        if match is None or match[2] in digests:
            raise ValueError(f"line {number} of the manifest is not a digest and a new path: {line!r}")
        digests[match[2]] = match[1]
    return digests


def pack(entries: Iterable[Entry], extra: Mapping[str, bytes] | None = None) -> Iterator[bytes]:
    """Pack the entries and `extra` (path to content) into a tar: equal content makes equal bytes on any machine."""
    members: dict[str, Entry | bytes] = dict(extra or {})
    for entry in entries:
        if entry.path in members:
            raise UsageError(
                "this name is taken by a file that every release gets",
                where=f"service/{entry.path}",
                next="rename the file",
            )
        members[entry.path] = entry
    written = 0
    for path, content in sorted(members.items()):
        for chunk in _member(path, content):
            written += len(chunk)
            yield chunk
    yield bytes(2 * _BLOCK + -(written + 2 * _BLOCK) % _RECORD)


def _member(path: str, content: Entry | bytes) -> Iterator[bytes]:
    """Yield the header, the bytes and the padding of one file."""
    info = tarfile.TarInfo(path)
    info.mode = content.mode if isinstance(content, Entry) else 0o644
    data = content.read() if isinstance(content, Entry) else content
    info.size = len(data)
    yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
    yield data
    yield bytes(-len(data) % _BLOCK)


def _examine(folder: Path, raw: bytes) -> Entry | Refusal:
    """Return the entry of one file, or the reason why it is refused."""
    refusal = file_rules.check_name(raw)
    if refusal:
        return refusal
    path = raw.decode()
    source = folder / path
    try:
        refusal = file_rules.check_type(path, source.lstat()) or file_rules.check_parents(folder, path)
        if refusal:
            return refusal
        data, status = plain_file.load(source, follow=False)
    except OSError as error:
        return Refusal(path, f"it cannot be read: {error.strerror}", "make it readable, or run the command again")
    refusal = file_rules.check_content(source.suffix, path, data)
    if refusal:
        return refusal
    executable = bool(status.st_mode & stat.S_IXUSR)
    return Entry(path, source, executable, len(data), hashlib.sha256(data).hexdigest())


def _error(refused: list[Refusal]) -> UsageError:
    """Make one error of all refusals: the first in full, the others as detail."""
    first, *others = refused
    return UsageError(
        f"this file cannot go into a release: {first.reason}",
        where=f"service/{first.path}",
        next=first.remedy,
        detail=tuple(f"service/{other.path}: {other.reason}; {other.remedy}" for other in others),
    )
