"""Read an export of OSV that the operator brought along: a zip of advisories, or a text of one JSON object a line.

The file may have come from anywhere: its size, its members, their depth and what is kept of them are bounded.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from tasks.engine import plain_file, untrusted_json
from tasks.engine.audit import advisory
from tasks.engine.audit.advisory import Advisory
from tasks.engine.errors import UsageError

_ONE = untrusted_json.SIZE
"""Bytes of one advisory."""
_ALL = 2 << 30
"""Bytes of the file, and of all advisories unpacked."""
_DIRECTORY = 32 << 20
"""Bytes of a zip's directory, which `zipfile` reads at once: it takes about ten times that in memory."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_GET = "get the export anew: https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip"
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError, IndexError,
           OverflowError)  # fmt: skip
"""What `zipfile` raises for a damaged file, an encrypted one, or one that needs a newer version."""


class Database(NamedTuple):
    """Advisories. source: file or address; number: of those about packages of PyPI; newest: day of the last change."""

    source: str
    advisories: tuple[Advisory, ...]
    number: int | None = None
    newest: str = ""


class _Source(io.BufferedReader):
    """A file of which only so much is read at once: `zipfile` believes the sizes that a zip claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        most = _DIRECTORY if size is None or size < 0 else size
        data = super().read(min(most, _DIRECTORY) + 1) if most >= _DIRECTORY else super().read(most)
        if len(data) > _DIRECTORY:
            raise zipfile.BadZipFile("its directory is too large")
        return data


def check(path: Path) -> None:
    """Raise UsageError unless there is a file that may be an export."""
    _open(path).close()


def read(path: Path, wanted: Collection[str]) -> Database:
    """Return the advisories of the wanted packages (canonical names); UsageError for a file that is no export."""
    with _open(path) as file:
        head = file.read(4)
        file.seek(0)
        records = _members(file, path) if head.startswith(b"PK") else _lines(file, path)
        advisories, number, newest, room = [], 0, "", advisory.Room()
        for where, record in records:
            try:
                number += advisory.is_of_python(record)
                found = room.keep(advisory.read(record, wanted))
            except ValueError as error:
                raise _refused(f"an advisory cannot be read: {error}", where) from None
            newest = max(newest, advisory.modified(record))
            advisories += [found] if found else []
    if not number:
        raise _refused("no advisory in it is about a package of PyPI", str(path))
    return Database(path.name, tuple(advisories), number, newest)


def _open(path: Path) -> _Source:
    try:
        with plain_file.opened(path) as file:
            source = _Source(io.FileIO(os.dup(file.fileno())))
    except OSError as error:
        message = f"the file cannot be read: {error.strerror or error}"
        raise UsageError(message, where=str(path), next="name an export of OSV: fab audit --db all.zip") from None
    if source.seek(0, io.SEEK_END) > _ALL:
        source.close()
        raise _refused(f"the file has more than {_ALL >> 30} GiB", str(path))
    source.seek(0)
    return source


def _members(file: _Source, path: Path) -> Iterator[tuple[str, object]]:
    """Yield the place and the value of each JSON file of a zip."""
    left = _ALL
    try:
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                where = f"{path} ({info.filename[:200]})"
                if not info.filename.endswith(".json"):
                    continue
                if info.compress_type not in _METHODS:
                    raise _refused("a member is packed in a way that is not read", where)
                with archive.open(info) as member:
                    data = member.read(_ONE + 1)
                left -= len(data)
                if left < 0:
                    raise _refused(f"its advisories have more than {_ALL >> 30} GiB", str(path))
                yield where, _parsed(data, where)
    except _BROKEN as error:
        raise _refused(f"the zip is damaged: {str(error)[:200]}", str(path)) from None


def _lines(file: _Source, path: Path) -> Iterator[tuple[str, object]]:
    """Yield the place and the value of each line; of a small file that is one document, of each item of its list."""
    whole = file.read(_ONE + 1)
    if len(whole) <= _ONE and (items := _document(whole)) is not None:
        yield from ((f"{path} (item {number})", item) for number, item in enumerate(items, 1))
        return
    file.seek(0)
    number = 0
    while line := file.readline(_ONE + 1):
        number += 1
        if line.strip():
            yield f"{path}:{number}", _parsed(line, f"{path}:{number}")


def _document(data: bytes) -> list[object] | None:
    """Return the advisories of one document: one, a list, or an answer of OSV; None if this is no document."""
    try:
        value = untrusted_json.load(data.decode())
    except ValueError:
        return None
    if isinstance(value, dict):
        value = value.get("vulns", [value])
    return value if isinstance(value, list) else None


def _parsed(data: bytes, where: str) -> object:
    if len(data) > _ONE:
        raise _refused(
            f"an advisory has more than {_ONE >> 20} MiB, or the file is neither a zip nor JSON lines", where
        )
    try:
        return untrusted_json.load(data.decode())
    except ValueError as error:
        raise _refused(f"an advisory is no JSON: {str(error)[:200]}", where) from None


def _refused(message: str, where: str) -> UsageError:
    return UsageError(message, where=where, next=_GET)
