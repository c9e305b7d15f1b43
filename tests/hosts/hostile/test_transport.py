"""Hosts that break the limits of SSH beside an honest one: that one is answered, and memory stays bounded."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.deploy.test_uploads import peak
from tests.promises.words import OTHERS
from tests.support.clone import Clone, make
from tests.support.false_sshd import DATA, MB, endless, inflates, key, listening, overflows, serve
from tests.support.hosts import Hosts
from tests.support.stand_ins import entries, write_inventory

pytestmark = pytest.mark.long

TOLD = {
    "inflating": ("the connection was given up: a packet of",),
    # A reader that keeps up with the flood grants more all the time: then the limit of time ends it.
    "flooding": ("the connection was given up: more than the window of a channel was sent", "facts did not end within"),
    "stranger": ("no connection to 127.0.0.1 port",),
}


@pytest.fixture
def beside(one_host: Hosts, tmp_path: Path) -> Iterator[Clone]:
    """A clone with a real host, two lying ones, and one that a stranger answers for."""
    host = key()
    liars: dict[str, Callable[[socket.socket], Any]] = {
        "inflating": lambda end: serve(end, host, inflates).join(),
        "flooding": lambda end: serve(end, host, overflows(DATA)).join(),
        "stranger": endless(b"SSH-2.0-x\r\n" + struct.pack(">IBB", 2**32 - 4, 4, 20)),
    }
    hosts = entries(one_host.inventory)
    pin = f"{host.get_name()} {host.get_base64()}"
    with ExitStack() as ports:
        for name, answer in liars.items():
            port = ports.enter_context(listening(answer))
            hosts[name] = {**hosts["shire01"], "address": "127.0.0.1", "port": port, "host_key": pin}
        yield make(tmp_path, write_inventory(tmp_path / "hosts.yaml", hosts))


@pytest.mark.promise(OTHERS, "a host that breaks the limits of SSH, and a stranger who answers for one")
def test_what_breaks_the_limits_of_ssh_costs_neither_memory_nor_the_other_host(beside: Clone) -> None:
    with beside.start("status", "-H", "all", "--json") as process:
        most = peak(process)
        assert process.stdout is not None
        assert process.stderr is not None
        out, err = process.stdout.read(), process.stderr.read()
    assert most < 150 * MB
    assert "Traceback" not in err
    assert process.returncode == 1, out + err
    document = json.loads(out)
    told = {error["host"]: error["message"] for error in document["errors"]}
    assert {name for name, texts in TOLD.items() if told[name].startswith(texts)} == TOLD.keys(), told
    assert {host["host"]: host["state"] for host in document["hosts"]} == {
        "shire01": "nothing deployed", "inflating": "unknown", "flooding": "unknown", "stranger": "unreachable",
    }  # fmt: skip
