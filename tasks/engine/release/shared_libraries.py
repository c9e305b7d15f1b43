"""Read in wheels which shared libraries of the system they need, from the ELF files in them (see elf(5))."""

from __future__ import annotations

import re
import struct
import subprocess
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from packaging.utils import parse_wheel_filename

from tasks.engine.errors import UsageError

_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRTAB, _STRSZ, _RPATH, _RUNPATH = 1, 5, 10, 15, 29
_NAMES = (_NEEDED, _RPATH, _RUNPATH)
_MOST = 1 << 24
"""Bytes of a table of texts at most."""
_ENTRIES = 4096
"""Entries of any other table at most."""
_LARGEST = 1 << 33
"""Bytes of a file at most, and of all that is unpacked of one wheel. To read an earlier place of a file it is unpacked
anew, and counted again."""
_MOST_NAMES = 1 << 18
"""Entries that one wheel may have at most: libraries, the entries of their tables, and names that are kept of them."""
_RATIO = 1100
"""Bytes that one packed byte may unpack to: deflate makes fewer even of zeros, so only a bomb exceeds this."""
_LONGEST = 4096
"""Bytes of a text at most."""
# A library's name becomes an argument of dpkg-query and rpm, and a path on the host.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,254}")
_FOLDER = re.compile(r"/[A-Za-z0-9._+/-]{0,1000}")


class _Budget:
    """The work that one wheel may make. BadZipFile if it makes more: a stranger may list one file many times."""

    def __init__(self) -> None:
        self._bytes, self._names = _LARGEST, _MOST_NAMES

    def unpack(self, size: int) -> None:
        """Count bytes before they are unpacked."""
        self._bytes -= size
        if self._bytes < 0:
            raise zipfile.BadZipFile(f"to read its libraries unpacks more than {_LARGEST >> 30} GB")

    def look_at(self, names: int) -> None:
        """Count entries before they are looked at."""
        self._names -= names
        if self._names < 0:
            raise zipfile.BadZipFile(f"its libraries have more than {_MOST_NAMES} names in all")


class _Library:
    """A file of a wheel, which is read in pieces."""

    def __init__(self, file: IO[bytes], size: int, budget: _Budget) -> None:
        self._file, self._size, self._budget, self._place = file, size, budget, 0

    def at(self, place: int, size: int, most: int) -> bytes:
        """Return a table of the file; ValueError if it is too large or too far away."""
        if size > most or place > self._size:
            raise ValueError(f"a table of {size} bytes at {place}")
        ahead = place - self._place
        self._budget.unpack(size + (ahead if ahead >= 0 else place))
        self._file.seek(place)
        data = self._file.read(size)
        self._place = place + len(data)
        return data


def needed(wheels: Iterable[Path]) -> dict[str, tuple[str, ...]]:
    """Return the libraries that wheels need and do not bring: name, and the folders that a wheel says it is in.

    Looks only at wheels that were not made for every Linux (`linux_*`); others may use only what each Linux has.
    UsageError for a wheel that cannot be read: a stranger may have made it.
    """
    found: dict[str, dict[str, None]] = {}
    for path in wheels:
        if any(tag.platform.startswith("linux_") for tag in parse_wheel_filename(path.name)[3]):
            try:
                for name, folders in _of_wheel(path):
                    found.setdefault(name, {}).update(dict.fromkeys(folders))
            except Exception as error:  # zipfile and what unpacks for it have a dozen kinds
                why = f"this wheel cannot be read: {type(error).__name__}: {str(error)[:200]}"
                raise UsageError(why, where=str(path), next="build it again, or lock another version") from error
    return {name: tuple(found[name]) for name in sorted(found)}


def package(name: str) -> str:
    """Return the package of this machine that has a shared library; empty if that is not known."""
    rpm = ("rpm", "-q", "--whatprovides", "--qf", "%{NAME}\n", f"{name}()(64bit)")
    for command in (("dpkg-query", "-S", f"*/{name}"), rpm):
        try:
            ended = subprocess.run(command, capture_output=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if ended.returncode == 0:
            return ended.stdout.decode(errors="replace").split("\n")[0].split(":")[0].split(",")[0].strip()
    return ""


def _of_wheel(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    budget = _Budget()
    with zipfile.ZipFile(path) as wheel:
        entries = {entry.filename: entry for entry in wheel.infolist()}
        brought = {name.rpartition("/")[2] for name in entries}
        for entry in entries.values():
            if entry.filename.endswith(".so") or ".so." in entry.filename:
                if entry.file_size > min(_LARGEST, _RATIO * entry.compress_size):
                    raise ValueError(f"{entry.filename} unpacks to {entry.file_size} bytes")
                with wheel.open(entry) as file:
                    needs, folders = _of_file(file, entry.file_size, budget)
                budget.look_at(1 + len(needs) * (1 + len(folders)))
                yield from ((need, folders) for need in needs if need not in brought)


class _Segment(NamedTuple):
    kind: int
    offset: int
    address: int
    size: int


def _of_file(opened: IO[bytes], size: int, budget: _Budget) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the libraries that an ELF file of 64 bits needs, and its folders; nothing of any other file."""
    file = _Library(opened, size, budget)
    try:
        start = file.at(0, 64, 64)
        if len(start) < 64 or start[:5] != b"\x7fELF\2":
            return (), ()
        order = "<" if start[5] == 1 else ">"
        segments = list(_segments(file, order, start))
        dynamic = next(segment for segment in segments if segment.kind == _DYNAMIC)
        entries = file.at(dynamic.offset, dynamic.size // 16 * 16, 16 * _ENTRIES)
        table = list(struct.iter_unpack(f"{order}QQ", entries))
        budget.look_at(len(table))
        texts = _texts(file, segments, dict(table))
        names = {tag: [_text(texts, place) for kind, place in table if kind == tag] for tag in _NAMES}
    except (struct.error, ValueError, KeyError, StopIteration):
        return (), ()
    # Of several the loader takes the last.
    paths = ([*names[_RPATH], *names[_RUNPATH]] or [""])[-1].split(":")
    return tuple(filter(_NAME.fullmatch, names[_NEEDED])), tuple(filter(_FOLDER.fullmatch, paths))


def _segments(file: _Library, order: str, start: bytes) -> Iterator[_Segment]:
    (place,) = struct.unpack_from(f"{order}Q", start, 32)
    size, number = struct.unpack_from(f"{order}HH", start, 54)
    data = file.at(place, size * number, 64 * _ENTRIES)
    for index in range(number):
        kind, _, offset, address, _, length = struct.unpack_from(f"{order}IIQQQQ", data, index * size)
        yield _Segment(kind, offset, address, length)


def _texts(file: _Library, segments: Iterable[_Segment], table: Mapping[int, int]) -> bytes:
    """Return the table of texts, whose place is an address in memory."""
    address, size = table[_STRTAB], table[_STRSZ]
    for segment in segments:
        if segment.kind == _LOAD and 0 <= address - segment.address < segment.size:
            return file.at(segment.offset + address - segment.address, size, _MOST)
    raise ValueError("no segment has the texts")


def _text(texts: bytes, place: int) -> str:
    # A longer text is cut, and then it is no name.
    return texts[place : place + _LONGEST].partition(b"\0")[0].decode("utf-8", "replace")
