"""Ways to a host: a known_hosts and an ssh_config of a test's own, and keys to go with them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.clone import Clone, Ended
from tests.hosts import Hosts
from tests.stand_ins import entries, write_inventory


@dataclass(frozen=True)
class Way:
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

    def fab(self, *words: str) -> Ended:
        """`fab` with that ssh_config."""
        return self.clone.fab("-S", str(self.folder / "config"), *words)

    def true(self, host: str = "shire01", *flags: str) -> Ended:
        """Whether a command runs there."""
        return self.fab(*flags, "exec", "-H", host, "--", "true")

    def line(self, number: int = 0, name: str = "") -> str:
        """The line of known_hosts that is right for a host."""
        return f"{name or self.hosts[number].address} {self.hosts[number].host_key}"

    def fingerprint(self, number: int = 0) -> str:
        """As the operator on the host sees it."""
        path = self.folder / "key.pub"
        path.write_text(self.hosts[number].host_key + "\n")
        return print_of(path.with_suffix(""))


def print_of(key: Path) -> str:
    """The fingerprint of a key's public half, as ssh-keygen says it."""
    shown = subprocess.run(["ssh-keygen", "-lf", f"{key}.pub"], capture_output=True, text=True, check=True).stdout
    return shown.split()[1]


def change(way: Way, **keys: object) -> None:
    """Change keys of shire01; None takes one away."""
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
    """Make a key pair; its public half, as known_hosts writes it."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", path], check=True, stdin=subprocess.DEVNULL)
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])
