"""Stand-ins for a host: sockets that never send a byte, and a program that runs any Python."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tasks.engine.host.steps import HostStep

TOLD = """import hashlib, json, os, shutil, sys, time

nonce, run, who, failpoint = (stream.readline().decode().rstrip("\\n") for _ in range(4))
step = json.loads(stream.read(int(stream.readline())))
print(flush=True)


def report(word, text=""):
    print(nonce, json.dumps({"report": word, "text": text}), flush=True)


exec(step["do"])
"""
"""Replaces the host's program: it runs the Python that its step contains. `stream` has the payload."""


def told_to(do: str, seconds: float = 60) -> HostStep:
    """Return a step of that program."""
    return HostStep("try", json.dumps({"do": do}), seconds)


def reported(nonce: str, word: str, text: str) -> bytes:
    """Return a report as the host's program writes it."""
    return f"{nonce} {json.dumps({'report': word, 'text': text}, ensure_ascii=False)}\n".encode()


class Mute:
    """A port of this machine that accepts connections and sends nothing."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self.port: int = listening.getsockname()[1]

    @property
    def called(self) -> bool:
        """Return true if a client has connected; to be asked once."""
        self._listening.setblocking(False)
        try:
            self._listening.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def entry(self, **more: object) -> dict[str, object]:
        """Return its entry below `hosts:`."""
        return {"address": "127.0.0.1", "port": self.port, "user": "deploy", **more}


@contextmanager
def mute() -> Iterator[Mute]:
    """Open a Mute for the block."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield Mute(listening)


def closed_port() -> int:
    """Return a port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def write_inventory(path: Path, hosts: dict[str, dict[str, object]]) -> Path:
    """Write a hosts.yaml of these hosts."""
    path.write_text(yaml.safe_dump({"hosts": hosts}, sort_keys=False, width=1000))
    return path


def entries(inventory: Path) -> dict[str, dict[str, object]]:
    """Return the hosts of a hosts.yaml, to change and to write again."""
    found: dict[str, dict[str, object]] = yaml.safe_load(inventory.read_text())["hosts"]
    return found
