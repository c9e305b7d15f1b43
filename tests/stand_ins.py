"""What stands where a host should: sockets that accept and never speak, and count who came."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml


class Mute:
    """A port of this machine that takes connections and says nothing."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self.port: int = listening.getsockname()[1]

    @property
    def called(self) -> bool:
        """Whether anybody has connected; asked once."""
        self._listening.setblocking(False)
        try:
            self._listening.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def entry(self, **more: object) -> dict[str, object]:
        """Its lines below `hosts:`."""
        return {"address": "127.0.0.1", "port": self.port, "user": "deploy", **more}


@contextmanager
def mute() -> Iterator[Mute]:
    """A Mute, for a while."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield Mute(listening)


def closed_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def write_inventory(path: Path, hosts: dict[str, dict[str, object]]) -> Path:
    """A hosts.yaml of these hosts."""
    path.write_text(yaml.safe_dump({"hosts": hosts}, sort_keys=False, width=1000))
    return path


def entries(inventory: Path) -> dict[str, dict[str, object]]:
    """The hosts of a hosts.yaml, to change and to write again."""
    found: dict[str, dict[str, object]] = yaml.safe_load(inventory.read_text())["hosts"]
    return found
