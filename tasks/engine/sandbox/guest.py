"""Write the files that turn the base tree into a host (keys, names, address) to a tar that its first boot unpacks."""

from __future__ import annotations

import io
import subprocess
import tarfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DEPLOY_UID = 1000


@dataclass(frozen=True)
class File:
    """One file of a host: its path below /, content, mode and owner."""

    path: str
    content: str
    mode: int = 0o644
    uid: int = 0


def make_key(path: Path, comment: str) -> str:
    """Make an ed25519 key pair if it is missing; return its public half, "ssh-ed25519 AAAA...", without the comment."""
    if not path.exists():
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return public_key(path)


def public_key(path: Path) -> str:
    """Return the public half of a key pair, algorithm and base64 alone."""
    return " ".join(path.with_name(f"{path.name}.pub").read_text().split()[:2])


def identity_files(name: str, host_key: Path, authorized: str) -> Iterator[File]:
    """Yield the files that a host keeps for life; `authorized` is the public key that logs in as deploy and as root."""
    yield File("etc/machine-id", f"{uuid.uuid4().hex}\n", 0o444)
    yield File("etc/hostname", f"{name}\n")
    yield File("etc/hosts", f"127.0.0.1\tlocalhost\n127.0.1.1\t{name}\n::1\tlocalhost\n")
    yield File("etc/ssh/ssh_host_ed25519_key", host_key.read_text(), 0o600)
    yield File("etc/ssh/ssh_host_ed25519_key.pub", f"{public_key(host_key)} {name}\n")
    yield File("root/.ssh/authorized_keys", f"{authorized}\n", 0o600)
    yield File("home/deploy/.ssh/authorized_keys", f"{authorized}\n", 0o600, DEPLOY_UID)
    yield File("etc/sudoers.d/deploy", "deploy ALL=(ALL:ALL) NOPASSWD: ALL\n", 0o440)


def network_file(address: str) -> File:
    """Return the network file: an address without a gateway, so the host reaches only its neighbours on the bridge.

    systemd ships an 80-container-host0.network that would win over a later name.
    """
    text = f"[Match]\nName=host0\n\n[Network]\nAddress={address}/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
    return File("etc/systemd/network/10-host0.network", text)


def write_seed(files: list[File], target: Path) -> None:
    """Write the archive whole or not at all. It has no directories: those of the base tree keep their owners."""
    part = target.with_name(f"{target.name}.part")
    with tarfile.open(part, "w") as archive:
        for file in files:
            content = file.content.encode()
            entry = tarfile.TarInfo(file.path)
            entry.mtime = time.time()
            entry.size, entry.mode, entry.uid, entry.gid = len(content), file.mode, file.uid, file.uid
            archive.addfile(entry, io.BytesIO(content))
    part.chmod(0o600)
    part.rename(target)
