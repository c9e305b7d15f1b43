"""Read an archive that a host has written, without unpacking it: is it whole, and made of what may be in one.

The host's service is not trusted: the memory that this takes is bounded, and so are the bytes and the entries.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple

from tasks.engine import untrusted_json

ENTRIES = 1_000_000
_BLOCK = 512
_PIECE = 1 << 20
_TEXT = 64 * 1024
"""Bytes that a long name, or `about.json`, may have."""
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_KINDS = {tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE}


class Damaged(Exception):
    """A file is no whole archive. Its text says why."""


class About(NamedTuple):
    """The origin of an archive, as it says itself. entries, size: the number and the bytes of what is in it."""

    service: str
    release: str
    host: str
    time: str
    entries: int
    size: int


def read(path: Path, limit: int) -> About:
    """Read an archive to its end; return its origin. Raises Damaged, and OSError if it cannot be read.

    limit: bytes that it may have unpacked
    """
    try:
        with path.open("rb") as file, io.BufferedReader(_Unpacked(file), _PIECE) as stream:
            return _Reader(stream, limit).read()
    except (EOFError, zlib.error) as error:
        raise Damaged(f"it is cut or changed: {error}") from error
    except (tarfile.TarError, ValueError) as error:
        raise Damaged(f"it is no archive of ours: {error}") from error


class _Unpacked(io.RawIOBase):
    """The content of a gzip file, which has one member.

    `gzip` would read any number of members, and the name that each may have byte by byte: a host could keep it at work
    for hours with a file of nothing else.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._stream = file, zlib.decompressobj(zlib.MAX_WBITS | 16)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Put the next bytes into the buffer; return how many, 0 at the end."""
        while not self._stream.eof:
            packed = self._stream.unconsumed_tail or self._file.read(_PIECE)
            data = self._stream.decompress(packed, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
            if not packed and not self._stream.eof:
                raise EOFError("its end is missing")
        if self._stream.unused_data or self._file.read(1):
            raise Damaged("there is something behind its end")
        return 0


class _Reader:
    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self.stream, self.limit = stream, limit
        self.digest = hashlib.sha256()
        self.size = 0

    def read(self) -> About:
        about, entries = b"", 0
        while True:
            so_far = self.digest.hexdigest()
            entry = self._header()
            entries += 1
            if entries > ENTRIES:
                raise Damaged(f"it has more than {ENTRIES} entries")
            if entry.name == "end":
                if self._content(entry.size, _TEXT) != so_far.encode():
                    raise Damaged("its digest is wrong")
                self._rest()
                break
            if entries == 1:
                about = self._content(entry.size, _TEXT) if entry.name == "about.json" else b""
            else:
                self._skip(entry.size)
        return _about(about, entries - 2, self.size)

    def _header(self) -> tarfile.TarInfo:
        """Read the header of the next entry, with its long name and its long target."""
        long: dict[bytes, bytes] = {}
        while True:
            entry = tarfile.TarInfo.frombuf(self._exactly(_BLOCK), "utf-8", "surrogateescape")
            if entry.type not in _LONG:
                break
            if entry.type in long:
                raise Damaged("it has an entry with two names")
            long[entry.type] = self._content(entry.size, _TEXT)
        text = long.get(tarfile.GNUTYPE_LONGNAME, b"")
        name = text.rstrip(b"\0").decode("utf-8", "surrogateescape") or entry.name
        if entry.type not in _KINDS or entry.size < 0 or (entry.size and entry.type != tarfile.REGTYPE):
            raise Damaged(f"it has an entry of a kind that no backup has: {name[:80]!r}")
        if name.startswith("/") or ".." in name.split("/"):
            raise Damaged(f"it has an entry outside of the data: {name[:80]!r}")
        entry.name = name
        return entry

    def _content(self, size: int, most: int) -> bytes:
        if not 0 <= size <= most:
            raise Damaged(f"it has a text of {size} bytes")
        return self._exactly(size + -size % _BLOCK)[:size]

    def _skip(self, size: int) -> None:
        left = size + -size % _BLOCK
        while left:
            left -= len(self._exactly(min(left, _PIECE)))

    def _exactly(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.size += len(data)
        if self.size > self.limit:
            raise Damaged(f"it has more than {self.limit} bytes unpacked")
        if len(data) != size:
            raise EOFError("its end is missing")
        self.digest.update(data)
        return data

    def _rest(self) -> None:
        """Read what fills the last record of a tar: zeros."""
        while data := self.stream.read(_PIECE):
            self.size += len(data)
            if data.strip(b"\0") or self.size > self.limit:
                raise Damaged("there is something behind its end")


def _about(data: bytes, entries: int, size: int) -> About:
    found = untrusted_json.load(data.decode()) if data else None
    if not isinstance(found, dict) or found.get("format") != 1:
        raise Damaged("it does not say where it is from")
    texts = [found.get(key) for key in ("service", "release", "host", "time")]
    if not all(isinstance(text, str) and len(text) < 300 for text in texts):
        raise Damaged("it does not say where it is from")
    service, release, host, time = map(str, texts)
    return About(service, release, host, time, entries, size)
