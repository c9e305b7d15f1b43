"""Give each sandbox a bridge and a /24 out of 198.18.0.0/15 (reserved for tests), without a route out."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.engine.errors import LoopError

POOL = ipaddress.IPv4Network("198.18.0.0/15")
SUBNETS = 512
ALIAS_LIMIT = 256


@dataclass(frozen=True)
class Network:
    """One of the 512 networks: its number names the bridge, so that making the bridge takes the network."""

    number: int

    @property
    def bridge(self) -> str:
        return f"iloop{self.number}"

    @property
    def subnet(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network((int(POOL.network_address) + self.number * 256, 24))

    def address(self, host: int) -> str:
        """Return the address of host number 1 (the controller) to 254."""
        return str(self.subnet[host])


def claim(owner: Path, preferred: int | None = None) -> Network:
    """Take the preferred network, or the first that is free or this owner's, and bring its bridge up. Raises LoopError.

    The kernel refuses a second bridge of one name, so two claims at once never get the same network.
    """
    first = [] if preferred is None else [preferred]
    for number in [*first, *range(SUBNETS)]:
        network = Network(number)
        if owner_of(network) == alias(owner) or _make(network, owner):
            _ip("address", "replace", f"{network.address(1)}/24", "dev", network.bridge, check=True)
            _ip("link", "set", network.bridge, "up", check=True)
            return network
    raise LoopError(
        f"all {SUBNETS} networks of {POOL} are taken", next="fab sandbox.down, or ip link del a bridge iloopN"
    )


def release(network: Network, owner: Path) -> None:
    """Remove the bridge if it is still this owner's."""
    if owner_of(network) == alias(owner):
        _ip("link", "delete", network.bridge)


def owner_of(network: Network) -> str | None:
    """Return the alias of a bridge, which names its owner; None where there is no bridge."""
    try:
        return (Path("/sys/class/net") / network.bridge / "ifalias").read_text().strip()
    except OSError:
        return None


def alias(owner: Path) -> str:
    """Return the alias for an owner's bridge: the owner's path, or its digest if the path is too long for an alias."""
    path = os.fsencode(owner)
    return str(owner) if len(path) < ALIAS_LIMIT else hashlib.sha256(path).hexdigest()


def overlapping(subnet: ipaddress.IPv4Network, routes: Iterable[str]) -> bool:
    """Return True if a route of this machine, other than "default", leads into the subnet."""
    return any(subnet.overlaps(ipaddress.IPv4Network(route, strict=False)) for route in routes if route != "default")


def _make(network: Network, owner: Path) -> bool:
    if overlapping(network.subnet, _routes()):
        return False
    if _ip("link", "add", network.bridge, "type", "bridge").returncode != 0:
        if owner_of(network) is None:
            raise LoopError(
                "this machine could not make a network bridge",
                next=f"ip link add {network.bridge} type bridge",
            )
        return False
    _ip("link", "set", network.bridge, "alias", alias(owner), check=True)
    ipv6 = Path("/proc/sys/net/ipv6/conf") / network.bridge / "disable_ipv6"
    if ipv6.exists():
        ipv6.write_text("1")
    return True


def _routes() -> tuple[str, ...]:
    return tuple(route["dst"] for route in json.loads(_ip("-json", "-4", "route", "show", check=True).stdout or "[]"))


def _ip(*arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=check)
