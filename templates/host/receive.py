"""Receive what the controller sends for a release: the wheels that the host lacks, one by one, then a tar."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import BinaryIO, NamedTuple, cast

from .descent import Descent
from .folders import Folder
from .payload import BLOCK, CUT, Payload
from .run import Refused, Run

_WHEELS = 100_000
_COMING = re.compile(r"([0-9]{1,15}) ([0-9a-f]{64}) ([^./][^/\0]*)")


class Wheel(NamedTuple):
    """A wheel that the controller sends. size: in bytes; digest: SHA-256, in hex."""

    size: int
    digest: str
    name: str


def wheels(run: Run, payload: Payload, place: Folder) -> dict[str, str]:
    """Receive the wheels, and return their digests by name.

    A wheel that arrived whole is not sent again, even if the rest fails: prune keeps what `.coming` names.
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
    """Yield the wheels that the lines ahead of them announce, up to an empty line."""
    for _ in range(_WHEELS):
        line = payload.line()
        if not line:
            return
        match = _COMING.fullmatch(line)
        if not match:
            raise Refused(f"the controller announced {line[:200]!r}, which is no wheel")
        yield Wheel(int(match[1]), match[2], match[3])
    raise Refused(f"the controller announced more than {_WHEELS} wheels")


def _written(payload: Payload, wheel: Wheel, place: Folder, part: str) -> str:
    """Write a wheel as it arrives, and return the digest of what arrived."""
    # OpenSSL's is six times as fast as the interpreter's own, and a stage without wheels or large files needs none.
    digest, left = import_module("hashlib").sha256(), wheel.size
    with _named(f"{place.path}/{wheel.name}"), place.writer(part, 0o644) as file:
        while left and (data := payload.read(min(left, BLOCK))):
            digest.update(data)
            file.write(data)
            left -= len(data)
    return str(digest.hexdigest())


def unpack(run: Run, payload: Payload, part: Folder) -> None:
    """Unpack the files of the tar into the release, and read all of its last record: the next step follows it."""
    began = payload.taken
    try:
        with _opened(payload) as archive, Descent(part, make=True) as folders:
            while (member := archive.next()) is not None:
                # tarfile would keep every member in memory.
                archive.members.clear()  # type: ignore[attr-defined]
                run.heed()
                _put(_content(archive, member), member, folders)
            # tarfile ends at the first of two empty blocks. The second may lie in a further record, which may not be
            # here yet.
            end = archive.offset + 2 * tarfile.BLOCKSIZE
    except (tarfile.TarError, ValueError):
        raise Refused(CUT) from None
    left = end + -end % tarfile.RECORDSIZE - (payload.taken - began)
    while left > 0 and (data := payload.read(left)):
        left -= len(data)
    if payload.ended:
        raise Refused(CUT)


def _opened(payload: Payload) -> tarfile.TarFile:
    """Open the tar as a stream of whole records: nothing is read past the end of a complete tar."""
    return tarfile.open(fileobj=cast("BinaryIO", payload), mode="r|", bufsize=tarfile.RECORDSIZE)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> BinaryIO:
    """Return the content of a plain file that lies below the release; Refused for anything else."""
    safe = not {"", ".", ".."} & set(member.name.split("/"))
    content = archive.extractfile(member) if member.isreg() and not member.issparse() and safe else None
    if content is None:
        raise Refused(f"the controller sent {member.name[:200]!r}, which is nothing that a release is made of")
    return cast("BinaryIO", content)


def _put(content: BinaryIO, member: tarfile.TarInfo, folders: Descent) -> None:
    above, _, name = member.name.rpartition("/")
    mode = 0o755 if member.mode & 0o100 else 0o644
    with _named(f"{folders.path}/{member.name}"), folders.at(above).writer(name, mode) as file:
        while data := content.read(BLOCK):
            file.write(data)


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Put this path into an OSError that is raised within."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
