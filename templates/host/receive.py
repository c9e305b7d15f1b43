"""What the controller sends for a release: the wheels that the host lacks, one after the other, and then a tar."""

from __future__ import annotations

import hashlib
import os
import re
import select
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple, cast

from .descent import Descent
from .folders import Folder
from .run import Refused, Run

LISTS = ("CHANGED", "DROPPED", "DIGEST", "EXECUTABLE")
"""Files of the tar that only say how the release is made."""
_BLOCK = 1 << 16
"""Bytes that are in memory at a time."""
_LIST_BYTES = 64 << 20
_LINE_BYTES = 4096
_WHEELS = 100_000
_COMING = re.compile(r"([0-9]{1,15}) ([0-9a-f]{64}) ([^./][^/\0]*)")
_CUT = "what the controller sent did not arrive whole"


class Payload:
    """What follows a step on standard input. A signal is heeded while nothing comes.

    ended: whether somebody has read to its end.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._descriptor = run, run.payload.fileno()
        self._held = _buffered(run.payload)
        self.ended = False

    def read(self, size: int) -> bytes:
        """At most so many bytes, as soon as there are any; none at the end."""
        if not self._held:
            self._held = self._receive()
        data, self._held = self._held[:size], self._held[size:]
        return data

    def line(self) -> str:
        """The next line, without its end."""
        while b"\n" not in self._held and len(self._held) < _LINE_BYTES:
            data = self._receive()
            if not data:
                raise Refused(_CUT)
            self._held += data
        line, _, self._held = self._held.partition(b"\n")
        return line.decode("utf-8", "surrogateescape")

    def _receive(self) -> bytes:
        self._run.heed()
        while not select.select([self._descriptor], [], [], 0.1)[0]:
            self._run.heed()
        data = os.read(self._descriptor, _BLOCK)
        self.ended = not data
        return data


def _buffered(stream: BinaryIO) -> bytes:
    """What is in the buffer of a stream, since it came together with the lines before: nothing is waited for."""
    descriptor = stream.fileno()
    blocks = os.get_blocking(descriptor)
    os.set_blocking(descriptor, False)
    try:
        there = len(stream.peek())  # type: ignore[attr-defined]
        return stream.read(there) if there else b""
    finally:
        os.set_blocking(descriptor, blocks)


class Wheel(NamedTuple):
    """A wheel on its way. size: in bytes; digest: SHA-256, in hex."""

    size: int
    digest: str
    name: str


def wheels(run: Run, payload: Payload, place: Folder) -> dict[str, str]:
    """Take the wheels, and return their digests by name.

    One that has arrived whole is not sent again, however the rest goes: prune leaves what `.coming` names.
    """
    coming = list(_announced(payload))
    if not coming:
        return {}
    part = f".part-{run.id}"
    names = "".join(f"{wheel.name}\n" for wheel in coming)
    place.replace(".coming", names.encode("utf-8", "surrogateescape"), 0o644, part)
    run.point("stage.coming")
    for wheel in coming:
        place.remove(part)
        if _written(payload, wheel, place, part) != wheel.digest:
            raise Refused(f"the wheel {wheel.name} did not arrive as it was sent")
        place.rename(part, wheel.name)
        run.point("stage.wheel")
    return {wheel.name: wheel.digest for wheel in coming}


def _announced(payload: Payload) -> Iterator[Wheel]:
    """What the lines ahead of the wheels say, up to an empty one."""
    for _ in range(_WHEELS):
        line = payload.line()
        if not line:
            return
        found = _COMING.fullmatch(line)
        if not found:
            raise Refused(f"the controller announced {line[:200]!r}, which is no wheel")
        yield Wheel(int(found[1]), found[2], found[3])
    raise Refused(f"the controller announced more than {_WHEELS} wheels")


def _written(payload: Payload, wheel: Wheel, place: Folder, part: str) -> str:
    """Write a wheel as it comes, and return the digest of what came."""
    found, left = hashlib.sha256(), wheel.size
    with _named(f"{place.path}/{wheel.name}"), place.writer(part, 0o644) as file:
        while left and (data := payload.read(min(left, _BLOCK))):
            found.update(data)
            file.write(data)
            left -= len(data)
    return found.hexdigest()


def unpack(run: Run, payload: Payload, part: Folder) -> dict[str, bytes]:
    """Put the files of the tar into the release, and return the content of those that are LISTS, by name."""
    lists: dict[str, bytes] = {}
    try:
        with _opened(payload) as archive, Descent(part, make=True) as folders:
            while (member := archive.next()) is not None:
                # It would keep them all.
                archive.members.clear()  # type: ignore[attr-defined]
                run.heed()
                content = _content(archive, member)
                if member.name in LISTS:
                    lists[member.name] = content.read(_LIST_BYTES)
                else:
                    _put(content, member, folders)
    except (tarfile.TarError, ValueError):
        raise Refused(_CUT) from None
    if payload.ended:
        raise Refused(_CUT)
    return lists


def _opened(payload: Payload) -> tarfile.TarFile:
    """The tar, read as it comes. By whole records: nothing is asked for past the end of one that came whole."""
    return tarfile.open(fileobj=cast("BinaryIO", payload), mode="r|", bufsize=tarfile.RECORDSIZE)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> BinaryIO:
    """A plain file that lies below the release; Refused for anything else."""
    safe = not {"", ".", ".."} & set(member.name.split("/"))
    content = archive.extractfile(member) if member.isreg() and not member.issparse() and safe else None
    if content is None:
        raise Refused(f"the controller sent {member.name[:200]!r}, which is nothing that a release is made of")
    return cast("BinaryIO", content)


def _put(content: BinaryIO, member: tarfile.TarInfo, folders: Descent) -> None:
    above, _, name = member.name.rpartition("/")
    mode = 0o755 if member.mode & 0o100 else 0o644
    with _named(f"{folders.path}/{member.name}"), folders.at(above).writer(name, mode) as file:
        while data := content.read(_BLOCK):
            file.write(data)


@contextmanager
def _named(path: str) -> Iterator[None]:
    """An error of the system within is one of this path."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
