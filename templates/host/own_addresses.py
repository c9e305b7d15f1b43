"""The addresses of this host as names of nginx's: the check of a balancer asks for an address, not for a name."""

from __future__ import annotations

import os
import re
import socket

from .files import write_if_new
from .locks import PROC

_MOST = 64


def write(name: str, run: str) -> bool:
    """Write the file that nginx includes; return True if it has changed."""
    return write_if_new(_path(name), wanted(name)[_path(name)], run)


def wanted(name: str) -> dict[str, bytes]:
    """Return the file's text by its path, for the addresses that the host has now."""
    return {_path(name): "".join(f"server_name {address};\n" for address in found()).encode()}


def remove(name: str) -> None:
    """Remove the file, which nginx includes no more."""
    if os.path.lexists(_path(name)):
        os.unlink(_path(name))


def _path(name: str) -> str:
    return f"/etc/{name}/nginx/addresses.conf"


def found() -> list[str]:
    """Return the addresses but loopback and link-local ones, IPv6 in brackets, as they stand in Host."""
    local = re.findall(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL", _read("net/fib_trie"))
    kept = sorted({address for address in local if not address.startswith(("127.", "169.254."))})
    packed = {bytes.fromhex(line[:32]) for line in _read("net/if_inet6").splitlines()}
    names = sorted(socket.inet_ntop(socket.AF_INET6, address) for address in packed)
    kept += [f"[{name}]" for name in names if name != "::1" and not name.startswith("fe80:")]
    return kept[:_MOST]


def _read(path: str) -> str:
    try:
        with open(f"{PROC}/{path}", encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""
