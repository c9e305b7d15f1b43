"""Whether a host is who it was: pins of hosts.yaml first, else known_hosts. Nothing unknown is ever accepted."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from paramiko.hostkeys import HostKeyEntry, HostKeys, InvalidHostKey
from paramiko.pkey import PKey
from paramiko.ssh_exception import SSHException

from tasks.engine.errors import LoopError, Unreachable
from tasks.engine.ssh_config import Endpoint

# Paramiko asks the host for one type alone; the strongest that we know is the one to ask for.
_PREFERRED = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")


@dataclass(frozen=True)
class Trust:
    """What is known of a host: its keys, the strongest first, those that were revoked, and where that is written."""

    keys: tuple[PKey, ...]
    revoked: tuple[bytes, ...]
    source: str


def known(endpoint: Endpoint) -> Trust:
    """A pin decides alone; without one, every known_hosts file that OpenSSH would read."""
    if endpoint.pin:
        return Trust((_key(*endpoint.pin.split()[:2]),), (), "host_key in hosts.yaml")
    keys: list[PKey] = []
    revoked: list[bytes] = []
    for path in endpoint.known_hosts:
        for marker, key in _entries(path, endpoint.known_as):
            if marker == "@revoked":
                revoked.append(key.asbytes())
            elif marker is None:
                keys.append(key)
    keys = [key for key in keys if key.asbytes() not in revoked]
    keys.sort(key=lambda key: _PREFERRED.index(key.get_name()) if key.get_name() in _PREFERRED else 99)
    return Trust(tuple(keys), tuple(revoked), " ".join(str(path) for path in endpoint.known_hosts[:1]) or "known_hosts")


def _key(kind: str, encoded: str) -> PKey:
    return PKey.from_type_string(kind, base64.b64decode(encoded))


def _entries(path: Path, name: str) -> Iterable[tuple[str | None, PKey]]:
    """Marker and key of each line about this name. Paramiko knows no markers, so they are taken off here."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        marker = words.pop(0) if words[0].startswith("@") else None
        try:
            entry = HostKeyEntry.from_line(" ".join(words))
        except (InvalidHostKey, SSHException, ValueError, IndexError):
            continue
        if entry is None or entry.key is None:
            continue
        if _names(entry.hostnames, name):
            yield marker, entry.key


def _names(patterns: Iterable[str], name: str) -> bool:
    """Whether a line is about this name, as OpenSSH reads it: paramiko knows no `*`, no `?` and no `!`."""
    found = False
    for pattern in patterns:
        if pattern.startswith("|1|"):
            fits = HostKeys.hash_host(name, pattern) == pattern
        else:
            plain = re.escape(pattern.removeprefix("!").lower()).replace(r"\*", ".*").replace(r"\?", ".")
            fits = re.fullmatch(plain, name.lower()) is not None
        if fits and pattern.startswith("!"):
            return False
        found = found or fits
    return found


def fingerprint(key: PKey) -> str:
    """As OpenSSH shows it."""
    digest = hashlib.sha256(key.asbytes()).digest()
    return f"{key.get_name()} SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def judge(endpoint: Endpoint, trust: Trust, key: PKey) -> None:
    """Nothing when the key is one we know; otherwise Unreachable with its fingerprint and the way on."""
    if key.asbytes() in trust.revoked:
        raise _refusal(endpoint, key, "this host key is revoked", "find out who answers there: nothing was sent")
    if any(key.asbytes() == one.asbytes() for one in trust.keys):
        return
    if trust.keys:
        told = f"the host key has changed: {trust.source} has {', '.join(map(fingerprint, trust.keys))}"
        forget = "change the pin" if endpoint.pin else f"ssh-keygen -R '{endpoint.known_as}'"
        way = f"find out why; if it is right, {forget}, then: fab hosts --trust {endpoint.name}"
        raise _refusal(endpoint, key, told, way)
    raise _refusal(endpoint, key, "the host key is unknown", f"fab hosts --trust {endpoint.name}")


def _refusal(endpoint: Endpoint, key: PKey, told: str, way: str) -> LoopError:
    return Unreachable(told, where=endpoint.name, next=way, code="host-key", detail=(f"offered: {fingerprint(key)}",))


def record(endpoint: Endpoint, key: PKey) -> Path:
    """Add the key to the user's known_hosts, and return that file."""
    path = endpoint.known_hosts[0] if endpoint.known_hosts else Path("~/.ssh/known_hosts").expanduser()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    line = f"{endpoint.known_as} {key.get_name()} {key.get_base64()}\n"
    before = path.read_bytes() if path.exists() else b""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write((b"\n" if before and not before.endswith(b"\n") else b"") + line.encode())
    return path
