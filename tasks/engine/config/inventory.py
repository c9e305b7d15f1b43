"""Read hosts.yaml, the hosts that get the service, and validate all of it before any connection."""

from __future__ import annotations

from collections.abc import Mapping as MappingView
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tasks.engine.config import formats, keys, schema, yaml_reader
from tasks.engine.config.keys import DEPLOY, SETUP, Key, Reader
from tasks.engine.config.nodes import Mapping, Node, Place, merge, plain
from tasks.engine.errors import UsageError

_CREATE = "create it with a line `hosts:` and, indented below, `shire01: {address: 192.0.2.11}`"


@dataclass(frozen=True)
class Host:
    """A machine reached over SSH. A field is None where the file leaves it to ssh_config and the defaults.

    identity: path of the private key, joined to the directory of the file; a leading `~` is not yet expanded
    service: overrides of service.yaml with their places, defaults merged in
    place: the line that names the host
    """

    name: str
    address: str
    port: int | None
    user: str | None
    groups: tuple[str, ...]
    host_key: str | None
    identity: str | None
    python: str | None
    service: Mapping | None = field(compare=False, repr=False)
    place: Place = field(repr=False)


class Inventory(NamedTuple):
    """The hosts of one file, in its order. sandbox: local hosts, selected only by name."""

    path: Path
    hosts: tuple[Host, ...]
    sandbox: tuple[Host, ...] = ()

    @property
    def label(self) -> str:
        """The path of the file as messages show it."""
        return yaml_reader.display_path(self.path)

    @property
    def groups(self) -> dict[str, tuple[Host, ...]]:
        """The hosts of each group; sandbox hosts belong to none."""
        names = sorted({group for host in self.hosts for group in host.groups})
        return {name: tuple(host for host in self.hosts if name in host.groups) for name in names}

    def beside(self, name: str) -> tuple[Host, ...]:
        """Return the hosts that share secrets with this one, itself included: a local host gets none of the others."""
        local = name in {host.name for host in self.sandbox}
        return self.sandbox if local else self.hosts


def load(root: Path, environ: MappingView[str, str]) -> Inventory:
    """Load the inventory of the project at root: the file that HOSTS names (from the current directory), or hosts.yaml.

    Sandbox hosts (.sandbox/hosts.yaml) are used alone if hosts.yaml has no hosts; otherwise they are selected only by
    name; with HOSTS set they are never used. Raises UsageError at the first fault.
    """
    chosen = environ.get("HOSTS")
    if chosen:
        path = Path(chosen)
        return Inventory(path, _hosts(path, missing="set HOSTS to a file that is there, or unset it for hosts.yaml"))
    path, local = root / "hosts.yaml", root / ".sandbox" / "hosts.yaml"
    sandbox = _hosts(local, missing="fab sandbox.up") if _exists(local) else ()
    if sandbox and not _exists(path):
        return Inventory(local, sandbox)
    hosts = _hosts(path, missing=_CREATE)
    if not hosts and sandbox:
        return Inventory(local, sandbox)
    inventory = Inventory(path, hosts, sandbox)
    _refuse_shared_names(inventory)
    return inventory


def overrides_document(inventory: Inventory) -> dict[str, object]:
    """Return the service overrides of all hosts as plain data, sorted by host; hosts without any are left out."""
    overrides = {host.name: plain(host.service) for host in inventory.hosts if host.service is not None}
    return {name: override for name, override in sorted(overrides.items()) if override}


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _hosts(path: Path, *, missing: str) -> tuple[Host, ...]:
    document = yaml_reader.read(path, missing=missing)
    if schema.is_null(document.root):
        return ()
    sections = schema.sections(document.root, ("defaults", "hosts"))
    defaults = sections.get("defaults")
    if defaults is not None:
        _host("defaults", defaults, defaults.place, path)
    listed = sections.get("hosts")
    if listed is None:
        return ()
    hosts = tuple(_named(name, node, defaults, place, path) for name, node, place in schema.named(listed))
    names = {host.name for host in hosts}
    for host in hosts:
        if clash := names.intersection(host.groups):
            message = f"{min(clash)} is the name of a host, and {host.name} has a group of that name"
            raise schema.refuse(host.place, message, "rename the group or the host")
    return hosts


def _named(name: str, node: Node, defaults: Node | None, place: Place, path: Path) -> Host:
    if not formats.HOST_NAME.fits(name) or name == "all":
        message = f"expected {formats.HOST_NAME.expected}, found {schema.quoted(name)}"
        raise schema.refuse(place, message, "rename it; `all` means every host" if name == "all" else "rename it")
    if schema.is_null(node):
        node = Mapping(place, {}, {})
    return _host(name, merge(defaults, node) if defaults is not None else node, place, path)


def _overrides(node: Node) -> Mapping:
    schema.entries(node)
    return schema.mapping(node)


def _groups(node: Node) -> tuple[str, ...]:
    groups: dict[str, None] = {}
    for item in schema.items(node):
        group = schema.text(item, formats.GROUP_NAME)
        if group == "all":
            raise schema.refuse(item, "`all` always means every host", "remove it from the groups")
        groups[group] = None
    return tuple(groups)


_NEXT = "the next command"
KEYS = (
    Key("address", keys.text(formats.ADDRESS), None, _NEXT,
        "Where the host is reached; without it, its name is the address. `~/.ssh/config` applies"),
    Key("port", keys.integer(1, 65535), None, _NEXT, "The port of sshd; without it, that of `~/.ssh/config`, or 22",
        "2222"),
    Key("user", keys.text(formats.USER), None, SETUP,
        "The deploy account: root, or an account that may use sudo. Setup gives it its few rights. Without it, that of "
        "`~/.ssh/config`, or yours"),
    Key("groups", Reader(_groups, f"a list, each {formats.GROUP_NAME.expected}", "[shire, web]"), (), _NEXT,
        "`-H web` means every host of the group; `all` is every host of the file"),
    Key("host_key", keys.text(formats.HOST_KEY), None, _NEXT,
        "The host's public key, whole; without it, your known_hosts decides",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFDYWOCYXsx/YEGKrwzFq1h/QsJXCohAlanozKzQ9lRc"),
    Key("identity", keys.text(formats.IDENTITY), None, _NEXT,
        "The private key to log in with, from the directory of the file; without it, those of ssh"),
    Key("python", keys.text(formats.INTERPRETER), None, DEPLOY,
        "The interpreter to build the venv with; without it, the newest on the host that fits"),
    Key("service", Reader(_overrides, "a mapping of keys of service.yaml", "{drain: 60}"), None, "what the key needs",
        "Overrides service.yaml on this host: mappings merge, other values replace, and null removes. "
        "Not `name` and the others that are the same on every host"),
)  # fmt: skip


def _host(name: str, node: Node, place: Place, path: Path) -> Host:
    values = keys.read(node, KEYS)
    if values["address"] is None and not formats.ADDRESS.fits(name):
        raise schema.refuse(place, f"{schema.quoted(name)} is no address, and there is no other", "add `address:`")
    values["address"] = values["address"] or name
    if values["identity"] and not values["identity"].startswith("~"):
        values["identity"] = str(path.parent / values["identity"])
    return Host(name=name, place=place, **values)


def _refuse_shared_names(inventory: Inventory) -> None:
    """Raise UsageError for a sandbox host whose name is also a host or a group of the inventory."""
    places: dict[str, Place] = {group: hosts[0].place for group, hosts in inventory.groups.items()}
    places |= {host.name: host.place for host in inventory.hosts}
    for local in inventory.sandbox:
        if local.name in places:
            raise UsageError(
                f"{local.name} stands in two places: {places[local.name]} and {local.place}",
                where=str(places[local.name]),
                next="rename it in hosts.yaml, or end the sandbox: fab sandbox.down",
            )
