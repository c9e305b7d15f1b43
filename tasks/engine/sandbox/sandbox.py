"""Manage a sandbox: a state directory, the hosts in it, and the inventory that names them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from tasks.engine.errors import UsageError
from tasks.engine.sandbox import disks, guest, limits, network, programs, tree
from tasks.engine.sandbox.locks import locked
from tasks.engine.sandbox.machine import Machine
from tasks.engine.sandbox.network import Network
from tasks.engine.sandbox.programs import Say
from tasks.engine.sandbox.removal import remove_tree

MOST_HOSTS = 60
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_NUMBERED = re.compile(r"shire(\d\d)")
_HEADER = "# Written by `fab sandbox.up`; gone with `fab sandbox.down`. Your own hosts belong in hosts.yaml.\n"


class Sandbox:
    """Real local hosts of one state directory. Its methods raise UsageError or LoopError, and print nothing.

    state_dir: holds hosts.yaml, id_ed25519 and the hosts' disks. suite: of the base tree; default: the controller's.
    """

    def __init__(self, state_dir: Path, suite: str | None = None) -> None:
        self.state_dir = state_dir.absolute()
        self.suite = suite

    @property
    def inventory(self) -> Path:
        """The hosts.yaml that names the sandbox's hosts."""
        return self.state_dir / "hosts.yaml"

    @property
    def identity(self) -> Path:
        """The private key that logs in on the hosts, as deploy and as root."""
        return self.state_dir / "id_ed25519"

    def up(self, hosts: int | Sequence[str], say: Say = lambda _: None) -> tuple[Machine, ...]:
        """Make missing hosts, boot those that are off, and wait for all: shire01 to shireNN, or those named."""
        names = default_names(hosts) if isinstance(hosts, int) else validate_names(hosts)
        programs.require_root()
        programs.install(programs.missing(), say)
        base = tree.ensure(tree.recipe(self.suite), say)
        with self._locked():
            net, directory = self._prepare(say)
            existing = {machine.name: machine for machine in self.machines()}
            wanted = [existing.get(name) or self._create(name, directory, base, net) for name in names]
            off = [machine for machine in wanted if machine.keeper_pid is None]
            limits.raise_inotify_limit(len({*existing, *names}), say)
            for machine in off:
                say(f"booting {machine.name} at {machine.address}")
                machine.start()
            for machine in off:
                machine.wait_ready()
            self._write_inventory()
        return tuple(wanted)

    def machines(self) -> tuple[Machine, ...]:
        """Return the sandbox's hosts, on or off, sorted by name."""
        record = self._record()
        if not record:
            return ()
        net = Network(int(record["network"]))
        hosts = [
            (path.parent, json.loads(path.read_text())) for path in sorted(Path(record["disks"]).glob("*/host.json"))
        ]
        return tuple(Machine(path.name, host["number"], path, Path(host["tree"]), net) for path, host in hosts)

    def down(self, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """Remove the named hosts, or all and the sandbox with them; return the names of the removed hosts."""
        if not self.state_dir.is_dir():
            return ()
        programs.require_root()
        with self._locked():
            gone = [machine for machine in self.machines() if names is None or machine.name in names]
            for machine in gone:
                machine.remove()
            if names is None:
                self._delete()
            else:
                self._write_inventory()
        return tuple(machine.name for machine in gone)

    def _record(self) -> dict[str, str]:
        path = self.state_dir / "sandbox.json"
        record: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        return record

    def _prepare(self, say: Say) -> tuple[Network, Path]:
        """Claim a network and a directory for disks, the former ones if possible; readdress hosts in a new network."""
        record = self._record()
        preferred = int(record["network"]) if record else None
        net = network.claim(self.state_dir, preferred)
        cache = tree.cache_directory()
        directory = Path(record["disks"]) if record else disks.choose_directory(self.state_dir, cache, say)
        directory.mkdir(parents=True, exist_ok=True)
        record = {"network": str(net.number), "disks": str(directory)}
        _replace(self.state_dir / "sandbox.json", json.dumps(record) + "\n")
        if preferred not in (None, net.number):
            for machine in self.machines():
                guest.write_seed([guest.network_file(machine.address)], machine.directory / "seed.tar")
        return net, directory

    def _create(self, name: str, directory: Path, base: Path, net: Network) -> Machine:
        machine = Machine(name, self._free_number(name), directory / name, base, net)
        remove_tree(machine.directory)
        disks.make(machine.directory / "disk")
        authorized = guest.make_key(self.identity, "sandbox")
        host_key = machine.directory / "ssh_host_ed25519_key"
        guest.make_key(host_key, name)
        files = [*guest.identity_files(name, host_key, authorized), guest.network_file(machine.address)]
        guest.write_seed(files, machine.directory / "seed.tar")
        _replace(machine.directory / "host.json", json.dumps({"number": machine.number, "tree": str(base)}) + "\n")
        return machine

    def _free_number(self, name: str) -> int:
        match = _NUMBERED.fullmatch(name)
        if match:
            return 10 + int(match[1])
        taken = {machine.number for machine in self.machines()}
        return next(number for number in range(120, 255) if number not in taken)

    def _write_inventory(self) -> None:
        _replace(self.inventory, inventory_text(self.machines(), self.identity))
        for path in (self.state_dir, self.inventory, self.identity):
            _give_back(path)

    def _delete(self) -> None:
        record = self._record()
        if record:
            network.release(Network(int(record["network"])), self.state_dir)
            remove_tree(Path(record["disks"]))
        remove_tree(self.state_dir)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with locked(self.state_dir / "lock"):
            yield


def default_names(count: int) -> tuple[str, ...]:
    """Return the names shire01 to shireNN. Raises UsageError outside 1 to 60."""
    if not 1 <= count <= MOST_HOSTS:
        raise UsageError(f"a sandbox has 1 to {MOST_HOSTS} hosts, not {count}", next="fab sandbox.up --count 2")
    return tuple(f"shire{number:02}" for number in range(1, count + 1))


def validate_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, each once. Raises UsageError for one that is no host name."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is no name for a host", next="use lower-case letters, digits and hyphens")
    return tuple(dict.fromkeys(names))


def inventory_text(machines: Sequence[Machine], identity: Path) -> str:
    """Return the hosts.yaml of these hosts, each with its address, the sandbox's identity and its host key as a pin."""
    hosts = {
        machine.name: {
            "address": machine.address,
            "user": "deploy",
            "identity": str(identity),
            "host_key": machine.host_key,
        }
        for machine in machines
    }
    return _HEADER + yaml.safe_dump({"hosts": hosts}, sort_keys=False, width=200)


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.rename(path)


def _give_back(path: Path) -> None:
    """Change the owner of a file of root's to the user who called sudo."""
    if "SUDO_UID" in os.environ:
        os.chown(path, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]))
