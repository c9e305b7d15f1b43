"""Verify a host's key: against the pin in hosts.yaml, else against known_hosts. No unknown key is ever accepted.

A key is trusted if it is listed there, or if the host sends a certificate for it from an authority listed there.
"""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from paramiko.hostkeys import HostKeyEntry, HostKeys, InvalidHostKey
from paramiko.pkey import PKey
from paramiko.ssh_exception import SSHException

from tasks.engine import plain_file
from tasks.engine.errors import LoopError, Unreachable, UsageError
from tasks.engine.ssh import host_certificates
from tasks.engine.ssh.ssh_config import Endpoint

_LIMIT = 64 * 1000 * 1000
"""Bytes that known_hosts, or a file of revoked keys, may have."""


class Trust(NamedTuple):
    """A host's known keys, the revoked keys, the file that lists them, and the authorities that may vouch for it."""

    keys: tuple[PKey, ...]
    revoked: tuple[bytes, ...]
    source: str
    authorities: tuple[bytes, ...] = ()

    def rank(self, algorithm: str) -> int:
        """Return the place of a key type in the order of preference: types that can be verified come first."""
        if algorithm.endswith("-cert-v01@openssh.com"):
            return 0 if self.authorities else 3
        kind = "ssh-rsa" if algorithm.startswith("rsa-sha2-") else algorithm
        return 1 if kind in {key.get_name() for key in self.keys} else 2


def load_trust(endpoint: Endpoint) -> Trust:
    """Return the pin alone if there is one, else the entries of every known_hosts file that OpenSSH would read."""
    if endpoint.pin:
        return Trust((_key(*endpoint.pin.split()[:2]),), (), "host_key in hosts.yaml")
    keys: dict[str | None, list[PKey]] = {None: [], "@revoked": [], "@cert-authority": []}
    for path in endpoint.known_hosts:
        for marker, names, key in _entries(path):
            # As in OpenSSH, an authority vouches for a host name, whatever the port.
            matches = _names(names, endpoint.known_as)
            if matches or (marker == "@cert-authority" and _names(names, endpoint.alias or endpoint.hostname)):
                keys.setdefault(marker, []).append(key)
    revoked = tuple(key.asbytes() for key in keys["@revoked"])
    return Trust(
        tuple(key for key in keys[None] if key.asbytes() not in revoked),
        revoked,
        " ".join(str(path) for path in endpoint.known_hosts[:1]) or "known_hosts",
        tuple(key.asbytes() for key in keys["@cert-authority"]),
    )


def _key(kind: str, encoded: str) -> PKey:
    return PKey.from_type_string(kind, base64.b64decode(encoded))


def _entries(path: Path) -> Iterable[tuple[str | None, list[str], PKey]]:
    """Yield marker, names and key of each line. Paramiko knows no markers, so this removes them."""
    try:
        lines = plain_file.read(path, _LIMIT).decode(errors="replace").splitlines()
    except plain_file.NotPlain as error:
        # /dev/null is the usual setting for an empty known_hosts.
        if str(path) == os.devnull:
            return
        raise _unreadable(path, error) from error
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
        yield marker, entry.hostnames, entry.key


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"known_hosts cannot be read: {error.strerror}", where=str(path),
        next="put a file in its place, or correct UserKnownHostsFile or GlobalKnownHostsFile in ssh_config",
    )  # fmt: skip


def _names(patterns: Iterable[str], name: str) -> bool:
    """Return whether a line's patterns match this name, as in OpenSSH: paramiko knows no `*`, no `?` and no `!`."""
    matched = False
    for pattern in patterns:
        if pattern.startswith("|1|"):
            fits = HostKeys.hash_host(name, pattern) == pattern
        else:
            fits = host_certificates.fits(pattern.removeprefix("!"), name)
        if fits and pattern.startswith("!"):
            return False
        matched = matched or fits
    return matched


def fingerprint(key: PKey) -> str:
    """Return the type and SHA-256 fingerprint of a key, as OpenSSH shows them."""
    digest = hashlib.sha256(key.asbytes()).digest()
    return f"{key.get_name()} SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def verify_fingerprint(endpoint: Endpoint, key: PKey, wanted: str) -> None:
    """Raise Unreachable, with the real fingerprint, unless the key has this one (SHA256:...)."""
    if fingerprint(key).split()[1] != wanted:
        way = (
            f"find out who answers there, or ask for the {key.get_name()} key's fingerprint there. Nothing was recorded"
        )
        raise _refusal(endpoint, key, f"the host key has another fingerprint than {wanted}", way)


def verify(endpoint: Endpoint, trust: Trust, key: PKey) -> None:
    """Raise Unreachable, with the key and the next step, unless the key is known or an authority vouches for it."""
    if key.asbytes() in trust.revoked or any(_revokes(path, endpoint, key) for path in endpoint.revoked):
        raise _refusal(endpoint, key, "this host key is revoked", "find out who answers there: nothing was sent")
    if any(key.asbytes() == known.asbytes() for known in trust.keys):
        return
    flaw = _flaw(endpoint, trust, key)
    if trust.authorities and not flaw:
        return
    trusting = f"ssh -p {endpoint.port} {endpoint.user}@{endpoint.asked}, which records it after a yes"
    trusting = trusting if endpoint.behind else f"fab hosts --trust {endpoint.name}"
    if trust.keys:
        message = f"the host key has changed: {trust.source} has {', '.join(map(fingerprint, trust.keys))}"
        forget = "change the pin" if endpoint.pin else f"ssh-keygen -R '{endpoint.known_as}'"
        raise _refusal(endpoint, key, message, f"find out why; if it is right, {forget}, then: {trusting}")
    if trust.authorities:
        message = f"an authority vouches for this host, and what the host shows is not enough: {flaw}"
        way = (
            f"mend HostCertificate in the host's sshd_config, or compare the key there and trust that alone: {trusting}"
        )
        raise _refusal(endpoint, key, message, way)
    raise _refusal(endpoint, key, "the host key is unknown", trusting)


def _flaw(endpoint: Endpoint, trust: Trust, key: PKey) -> str | None:
    """Return why no known authority vouches for this key; None if one does."""
    shown = key.public_blob
    if shown is None:
        return "a key without a certificate"
    authorities = {authority for authority in trust.authorities if authority not in trust.revoked}
    name = endpoint.alias or endpoint.hostname
    return host_certificates.flaw(shown.key_type, shown.key_blob, name, authorities, time.time())


def _revokes(path: Path, endpoint: Endpoint, key: PKey) -> bool:
    """Return whether a RevokedHostKeys file lists the key or its authority. An unreadable file refuses every host."""
    certificate = key.public_blob.key_blob if key.public_blob is not None else b""
    try:
        text = plain_file.read(path, _LIMIT)
        if text.startswith(b"SSHKRL\n\0"):
            return _in_krl(path, key)
        lines = [line.split() for line in text.splitlines() if not line.lstrip().startswith(b"#")]
        listed = [base64.b64decode(words[1]) for words in lines if len(words) > 1]
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        message = f"RevokedHostKeys of ssh_config cannot be asked: {error}"
        raise _refusal(endpoint, key, message, f"see to {path}") from error
    # The certificate contains the authority's key.
    return any(revoked == key.asbytes() or revoked in certificate for revoked in listed)


def _in_krl(path: Path, key: PKey) -> bool:
    shown = key.public_blob
    kind, blob = (shown.key_type, shown.key_blob) if shown is not None else (key.get_name(), key.asbytes())
    with tempfile.NamedTemporaryFile("w", suffix=".pub") as file:
        file.write(f"{kind} {base64.b64encode(blob).decode()}\n")
        file.flush()
        command = ["ssh-keygen", "-Q", "-f", str(path), file.name]
        answer = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if answer.returncode and "REVOKED" not in answer.stdout:
        raise subprocess.SubprocessError(answer.stderr.strip())
    return answer.returncode != 0


def _refusal(endpoint: Endpoint, key: PKey, why: str, way: str) -> LoopError:
    return Unreachable(why, where=endpoint.place, next=way, code="host-key", detail=(f"offered: {fingerprint(key)}",))


def record(endpoint: Endpoint, key: PKey) -> Path:
    """Add the key to the user's known_hosts; return the path of that file."""
    path = endpoint.known_hosts[0] if endpoint.known_hosts else Path("~/.ssh/known_hosts").expanduser()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    line = f"{endpoint.known_as} {key.get_name()} {key.get_base64()}\n"
    try:
        before = plain_file.read(path, _LIMIT) if path.exists() else b""
    except OSError as error:
        raise _unreadable(path, error) from error
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write((b"\n" if before and not before.endswith(b"\n") else b"") + line.encode())
    return path
