"""Facts about the machine and root's files on it, on which root's part of a service depends."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterable, Mapping

from . import accounts, memory, programs, record, small_file
from .fact_schema import Machine, Record
from .kept import sha256
from .locks import PROC

TOOLS = ("apt-get", "certbot", "curl", "dnf", "flock", "head", "nginx", "openssl", "sha256sum", "ss", "sudo",
         "systemctl", "tar", "visudo")  # fmt: skip
_LARGEST = 4 << 20
"""Bytes to read of a file of root's; setup writes no larger one."""
_NAMES = 100
"""Names of secrets to report."""
_LONGEST = 4000
"""Characters to report of a value of the record."""


def look(*, can_be_root: bool) -> Machine:
    """Return the facts about the machine. can_be_root: this account can become root."""
    return Machine(
        int(time.time()),
        _ipv6(),
        {name: path for name in TOOLS if (path := programs.find(name))},
        accounts.web_names(),
        can_be_root,
        _distribution(),
        *memory.of_the_host(),
    )


def _distribution() -> str:
    """Return name and version of the distribution. os-release is a shell script, but only read as text."""
    text = (_read("/etc/os-release") or b"").decode("utf-8", "replace")
    found = dict(re.findall(r"^(ID|VERSION_ID|VERSION_CODENAME)=[\"']?([^\"'\n]*)", text, re.MULTILINE))
    version = found.get("VERSION_ID") or found.get("VERSION_CODENAME") or "unnumbered"
    return f"{found.get('ID', '')} {version}"[:_LONGEST]


def _ipv6() -> bool:
    # The size of a file in /proc is always 0, so read it.
    try:
        with open(f"{PROC}/net/if_inet6", "rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def recorded(known: record.Record, files: Iterable[str]) -> Record:
    """Return what setup recorded. files: the paths whose digests are wanted."""
    origin, by, since = (known.values.get(word, "")[:_LONGEST] for word in ("origin", "by", "since"))
    first = {path: found[0] for path in files if (found := known.digests(path))}
    secrets, changing = (tuple(sorted(names))[:_NAMES] for names in (known.secrets, known.changing))
    layout = known.layout if known.there else ""
    return Record(layout, (known.account or "")[:_LONGEST], origin, by, since, first, secrets, changing)


def contents(paths: Iterable[str]) -> dict[str, bytes]:
    """Return the files of root's that can be read. Links are followed: only root can write where the links lie."""
    return {path: data for path in paths if (data := _read(path)) is not None}


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each file, in hex."""
    return {path: sha256(data).hexdigest() for path, data in files.items()}


def shown(files: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Return a report `data PATH BASE64` for each file."""
    return [("data", f"{path} {base64.b64encode(data).decode()}") for path, data in files.items()]


def _read(path: str) -> bytes | None:
    data = small_file.content(path, _LARGEST + 1)
    return data if data is not None and len(data) <= _LARGEST else None


def loopback(name: str) -> bool:
    """Return whether an older version wrote the unit, and so left loopback open: it has no line PrivateNetwork."""
    data = _read(f"/etc/systemd/system/{name}@.service") or b""
    lines = data.split(b"\n")
    return b"IPAddressDeny=any" in lines and not any(line.startswith(b"PrivateNetwork=") for line in lines)
