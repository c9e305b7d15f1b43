"""Collect the files of a release, with their sizes and digests, and pack them into one reproducible tar.

A release holds the files that git tracks or would track under `service/`, and those that `include` names. A file that
could leak a secret or could not be rebuilt the same elsewhere (links, devices, odd names) is refused by name, all at
once, before any connection.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from tasks.engine import plain_file
from tasks.engine.errors import UsageError
from tasks.engine.release import file_rules, git, included_files, package_folders
from tasks.engine.release.file_rules import Refusal
from templates.host.folders import LARGEST

_BLOCK, _RECORD = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
_PIECE = 1 << 20
"""Bytes of a file in memory at a time."""
_NARROWER = "move it elsewhere, or name fewer files in `include` of service.yaml"
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
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes that were hashed; UsageError, before the last of them, when the file has changed since."""
        digest, left, piece = hashlib.sha256(), self.size, b""
        try:
            with plain_file.opened(self.source, follow=False) as file:
                while left and (following := file.read(min(left, _PIECE))):
                    yield piece
                    piece = following
                    digest.update(piece)
                    left -= len(piece)
                same = not file.read(1) and digest.hexdigest() == self.sha256
        except OSError:
            same = False
        if not same:
            raise UsageError(
                "the file changed while the release was being made",
                where=f"service/{self.path}",
                next="run the command again",
            )
        yield piece


class Tree(NamedTuple):
    """The entries of a release, sorted by path. shared: directories that are links to the service's data on a host."""

    entries: tuple[Entry, ...]
    shared: tuple[str, ...] = ()


def collect(
    root: Path,
    include: Mapping[str, str] = MappingProxyType({}),
    shared: tuple[str, ...] = (),
    files: Iterable[bytes] | None = None,
) -> Tree:
    """Return the files of `root/service`; UsageError names every one that cannot go into a release.

    include: paths and globs of files that git ignores or that are large, each with its place in service.yaml
    shared: directories that may have no file in git
    files: the files that git lists, if it was asked already
    """
    folder = root / "service"
    files = git.read(root).files if files is None else files
    listed = {name for name in files if not _is_left_out(os.fsdecode(name))}
    listed = {name for name in listed if not file_rules.keeps_shared(os.fsdecode(name), shared)}
    included = included_files.find(folder, include)
    examined = [_examine(folder, name, shared, included=name in included) for name in sorted(listed | included)]
    beside = {os.fsdecode(name) for name in included - listed}
    refused = [
        item._replace(remedy=_NARROWER) if item.path in beside else item
        for item in examined
        if isinstance(item, Refusal)
    ]
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
    return Tree(tuple(sorted(entries, key=lambda entry: entry.path)), shared)


def _is_left_out(path: str) -> bool:
    return file_rules.is_litter(path) or package_folders.is_own(path)


def examine(folder: Path, names: Iterable[bytes], where: str) -> tuple[Entry, ...]:
    """Return the entries of files below a directory; UsageError names every one that no release may have."""
    examined = [_examine(folder, name, (), included=True) for name in names]
    refused = [item for item in examined if isinstance(item, Refusal)]
    if refused:
        listed = tuple(f"{item.path}: {item.reason}; {item.remedy}" for item in refused)
        message = "the wheel of the project has a file that cannot go into a release"
        raise UsageError(message, where=where, next="leave it out of the build", detail=listed)
    return tuple(item for item in examined if isinstance(item, Entry))


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
    info.size = content.size if isinstance(content, Entry) else len(content)
    yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
    yield from content.pieces() if isinstance(content, Entry) else (content,)
    yield bytes(-info.size % _BLOCK)


def _examine(folder: Path, raw: bytes, shared: tuple[str, ...], *, included: bool) -> Entry | Refusal:
    """Return the entry of one file, or the reason why it is refused. included: `include` names it."""
    refusal = file_rules.check_name(raw)
    if refusal:
        return refusal
    path = raw.decode()
    refusal = file_rules.check_shared(path, shared)
    if refusal:
        return refusal
    source = folder / path
    try:
        refusal = file_rules.check_type(path, source.lstat(), included=included)
        refusal = refusal or file_rules.check_parents(folder, path)
        return refusal or _read(source, path, limited=not included)
    except OSError as error:
        return Refusal(path, f"it cannot be read: {error.strerror}", "make it readable, or run the command again")


def _read(source: Path, path: str, *, limited: bool) -> Entry | Refusal:
    """Read a file to its end, a piece at a time; OSError if it is `limited` and too large."""
    with plain_file.opened(source, follow=False) as file:
        head = file.read(file_rules.LIMIT)
        refusal = file_rules.check_content(source.suffix, path, head)
        if refusal:
            return refusal
        if os.fstat(file.fileno()).st_size > LARGEST:
            return Refusal(path, f"it has more than {LARGEST >> 30} GiB", "keep large data in STATE_DIRECTORY")
        digest, size = hashlib.sha256(head), len(head)
        while piece := file.read(_PIECE):
            if limited or size > LARGEST:
                raise OSError(errno.EFBIG, "it has grown")
            digest.update(piece)
            size += len(piece)
        executable = bool(os.fstat(file.fileno()).st_mode & stat.S_IXUSR)
    return Entry(path, source, executable, size, digest.hexdigest())


def _error(refused: list[Refusal]) -> UsageError:
    """Make one error of all refusals: the first in full, the others as detail."""
    first, *others = refused
    return UsageError(
        f"this file cannot go into a release: {first.reason}",
        where=f"service/{first.path}",
        next=first.remedy,
        detail=tuple(f"service/{other.path}: {other.reason}; {other.remedy}" for other in others),
    )
