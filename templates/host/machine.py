"""The machine, and what of root's lies on it: all that root's part of a service depends on."""

from __future__ import annotations

import base64
import os
import pwd
import stat
import time
from collections.abc import Iterable, Mapping

from . import programs, record
from .kept import sha256
from .locks import PROC
from .told import Machine, Record

TOOLS = ("apt-get", "curl", "dnf", "flock", "head", "nginx", "openssl", "sha256sum", "ss", "sudo", "systemctl", "tar",
         "visudo")  # fmt: skip
WEB_ACCOUNTS = ("www-data", "nginx")
_LARGEST = 4 << 20
"""Bytes of a file of root's; a larger one is none of ours."""
_LONGEST = 4000
"""Letters of a value of the record."""


def look(*, root: bool) -> Machine:
    """root: whether root is to be had."""
    return Machine(
        int(time.time()),
        _ipv6(),
        {name: path for name in TOOLS if (path := programs.find(name))},
        tuple(filter(_is_account, WEB_ACCOUNTS)),
        root,
    )


def _ipv6() -> bool:
    # A file of /proc has no size: what it says has to be read.
    try:
        with open(f"{PROC}/net/if_inet6", "rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def _is_account(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def recorded(known: record.Record, files: Iterable[str]) -> Record:
    """What setup recorded. files: those whose digests are wanted."""
    origin, by, since = (known.values.get(word, "")[:_LONGEST] for word in ("origin", "by", "since"))
    first = {path: found[0] for path in files if (found := known.digests(path))}
    return Record(known.layout if known.there else "", (known.account or "")[:_LONGEST], origin, by, since, first)


def contents(paths: Iterable[str]) -> dict[str, bytes]:
    """The files of root's that are there and may be read; links are followed, as only root may write where they lie."""
    return {path: data for path in paths if (data := _read(path)) is not None}


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of each, in hex."""
    return {path: sha256(data).hexdigest() for path, data in files.items()}


def shown(files: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """A line `data PATH BASE64` for each."""
    return [("data", f"{path} {base64.b64encode(data).decode()}") for path, data in files.items()]


def _read(path: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(_LARGEST + 1)
    return data if len(data) <= _LARGEST else None


def loopback(name: str) -> bool:
    """Whether the unit of a former version opens loopback to all, and says nothing of a network of its own."""
    data = _read(f"/etc/systemd/system/{name}@.service") or b""
    lines = data.split(b"\n")
    return b"IPAddressDeny=any" in lines and not any(line.startswith(b"PrivateNetwork=") for line in lines)
