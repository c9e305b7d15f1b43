"""Ways to a host: a known_hosts and an ssh_config of the test's own, with keys."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support import clone as clones
from tests.support.clone import Clone, Ended
from tests.support.hosts import Hosts, MakeHosts
from tests.support.stand_ins import entries, write_inventory

SECONDS = 5 + 5
"""The limit for a clear sentence: 5 s, and the start of `fab` on a busy machine."""


@dataclass(frozen=True)
class SshAccess:
    """Two hosts without pins, a known_hosts of the test's own, and an ssh_config that names it."""

    clone: Clone
    hosts: Hosts
    folder: Path
    identity: Path

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def config(self, more: str = "") -> None:
        """Write the ssh_config."""
        head = f"Host *\n  UserKnownHostsFile {self.known_hosts}\n  GlobalKnownHostsFile /dev/null\n"
        (self.folder / "config").write_text(f"{more}\n{head}")

    def know(self, *lines: str) -> None:
        """Write the known_hosts."""
        self.known_hosts.write_text("".join(f"{line}\n" for line in lines))

    @property
    def flags(self) -> tuple[str, str]:
        """Return the options that make `fab` read that ssh_config."""
        return "-S", str(self.folder / "config")

    def fab(self, *words: str) -> Ended:
        """Run `fab` with it."""
        return self.clone.fab(*self.flags, *words)

    def probe(self, host: str = "shire01", *flags: str) -> Ended:
        """Run a command there."""
        return self.fab(*flags, "exec", "-H", host, "--", "true")

    def trust(self) -> Ended:
        """Run `fab hosts --trust shire01`, with the fingerprint of its key."""
        return self.fab("hosts", "--trust", "shire01", "--fingerprint", self.fingerprint())

    def line(self, number: int = 0, name: str = "") -> str:
        """Return the correct line of known_hosts for a host."""
        return f"{name or self.hosts[number].address} {self.hosts[number].host_key}"

    def fingerprint(self, number: int = 0) -> str:
        """Return the fingerprint that the operator on the host sees."""
        path = self.folder / "key.pub"
        path.write_text(self.hosts[number].host_key + "\n")
        return print_of(path.with_suffix(""))


def ground(make: MakeHosts, folder: Path, count: int, suite: str | None = None) -> SshAccess:
    """Make a way to this many hosts, shared by a module."""
    hosts = make(count, suite)
    identity = Path(str(entries(hosts.inventory)["shire01"]["identity"]))
    return SshAccess(clones.make(folder, hosts.inventory), hosts, folder, identity)


def unpinned(shared: SshAccess, folder: Path) -> SshAccess:
    """Return the same with an inventory without pins, and files of the test's own."""
    made = replace(shared, folder=folder, clone=replace(shared.clone, environment={}))
    pins = {
        name: {key: value for key, value in entry.items() if key != "host_key"}
        for name, entry in entries(shared.hosts.inventory).items()
    }
    made.clone.inventory = write_inventory(folder / "hosts.yaml", pins)
    made.config()
    return made


def sshd(way: SshAccess, settings: str, number: int = 0) -> None:
    """Put these settings before the sshd's own; empty: remove them."""
    write = "cat >/etc/ssh/sshd_config.d/00-test.conf && systemctl reset-failed ssh && systemctl restart ssh"
    ended = way.hosts[number].sh(write, f"{settings}\n".encode())
    assert ended.returncode == 0, ended.stderr.decode()


def sentence(clone: Clone, *words: str, status: int, told: tuple[str, ...]) -> Ended:
    """Run `fab`; assert, in time, one error about shire01 with these words and a next step."""
    began = time.monotonic()
    ended = clone.fab(*words)
    took = time.monotonic() - began
    assert ended.status == status, ended.both
    assert took < SECONDS, f"{took:.1f} s"
    assert "Traceback" not in ended.both
    assert sum(ended.both.count(mark) for mark in ("error: ", "  FAILED  ", "  UNREACHABLE  ")) == 1, ended.both
    for text in ("shire01", "next: ", *told):
        assert text in ended.both, ended.both
    return ended


def print_of(key: Path) -> str:
    """Return the fingerprint of a key's public half, as ssh-keygen prints it."""
    shown = subprocess.run(["ssh-keygen", "-lf", f"{key}.pub"], capture_output=True, text=True, check=True).stdout
    return shown.split()[1]


def change(way: SshAccess, **keys: object) -> None:
    """Change keys of shire01; None removes one."""
    assert way.clone.inventory
    hosts = entries(way.clone.inventory)
    merged = {**hosts["shire01"], **keys}
    hosts["shire01"] = {key: value for key, value in merged.items() if value is not None}
    write_inventory(way.clone.inventory, hosts)


def refused(ended: Ended, *told: str) -> None:
    assert ended.status == 3, ended.both
    assert "Traceback" not in ended.err
    for text in told:
        assert text in ended.both


def key(path: Path, kind: str = "ed25519", passphrase: str = "") -> str:
    """Make a key pair; return its public half, in known_hosts format. kind: as ssh-keygen has it, or rsa:BITS."""
    name, _, bits = kind.partition(":")
    words = ["ssh-keygen", "-q", "-t", name, *(("-b", bits) if bits else ()), "-N", passphrase, "-f", path]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])
