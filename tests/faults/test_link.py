"""The relay does to a connection what its methods promise."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest

from tests.support.clone import Clone
from tests.support.hosts import Hosts
from tests.support.link import Link, link_to
from tests.support.stand_ins import entries, write_inventory


class Echo:
    """A port that sends back each byte. ends: the end of each of its connections, in order."""

    def __init__(self, listening: socket.socket) -> None:
        self.port: int = listening.getsockname()[1]
        self.ends: Queue[str] = Queue()
        self._listening = listening

    def serve(self) -> None:
        """Serve until the port is closed."""
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
                self.ends.put("closed")
            except ConnectionResetError:
                self.ends.put("reset")


@pytest.fixture
def echo() -> Iterator[Echo]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made = Echo(listening)
        thread = threading.Thread(target=made.serve, daemon=True)
        thread.start()
        yield made
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def link(echo: Echo) -> Iterator[Link]:
    with link_to("127.0.0.1", echo.port) as made:
        yield made


@pytest.fixture
def client(link: Link) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", link.port), timeout=30) as made:
        yield made


def back(client: socket.socket, text: bytes) -> bytes:
    """Send, and receive as much."""
    threading.Thread(target=client.sendall, args=(text,), daemon=True).start()
    return received(client, len(text))


def received(client: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count and (data := client.recv(65536)):
        found += data
    return found


def silent(client: socket.socket) -> bool:
    client.settimeout(0.5)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(30)
    return False


def test_it_passes_bytes_and_ends(echo: Echo, client: socket.socket) -> None:
    text = bytes(range(256)) * 4096
    assert back(client, text) == text
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
    assert echo.ends.get(timeout=30) == "closed"


def test_a_reset_is_seen_on_both_sides_and_new_connections_are_taken(
    echo: Echo, link: Link, client: socket.socket
) -> None:
    assert back(client, b"x") == b"x"
    link.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert echo.ends.get(timeout=30) == "reset"
    with socket.create_connection(("127.0.0.1", link.port), timeout=30) as another:
        assert back(another, b"y") == b"y"


def test_a_stalled_link_keeps_silent_both_ways_until_it_heals(echo: Echo, link: Link, client: socket.socket) -> None:
    assert back(client, b"x") == b"x"
    link.stall()
    client.sendall(b"first")
    assert silent(client)
    with socket.create_connection(("127.0.0.1", link.port), timeout=30) as another:
        another.sendall(b"late")
        assert silent(another)
        assert echo.ends.empty()
        link.heal()
        client.sendall(b" second")
        assert received(client, 12) == b"first second"
        assert received(another, 4) == b"late"


def test_a_delay_is_paid_once_each_way_and_not_by_every_piece(link: Link, client: socket.socket) -> None:
    assert back(client, b"x") == b"x"
    link.slow(seconds=1)
    began = time.monotonic()
    assert len(back(client, b"x" * 2**20)) == 2**20
    assert 2 <= time.monotonic() - began < 60
    link.heal()
    began = time.monotonic()
    assert back(client, b"x") == b"x"
    assert time.monotonic() - began < 2


def test_a_narrow_link_passes_so_much_a_second(link: Link, client: socket.socket) -> None:
    link.slow(rate=65536)
    began = time.monotonic()
    assert len(back(client, b"x" * 65536)) == 65536
    assert 1 <= time.monotonic() - began < 60


def test_after_so_many_bytes_it_does_what_it_was_told(echo: Echo, link: Link, client: socket.socket) -> None:
    link.after(200_000, link.reset)
    # Half of the bytes go there, half come back.
    assert len(back(client, b"x" * 80_000)) == 80_000
    assert echo.ends.empty()
    with pytest.raises(ConnectionResetError):
        back(client, b"x" * 80_000)
    assert echo.ends.get(timeout=30) == "reset"


def test_fab_reaches_a_host_by_way_of_it_and_knows_the_host(clone: Clone, one_host: Hosts, tmp_path: Path) -> None:
    machine = one_host[0]
    identity = str(entries(one_host.inventory)["shire01"]["identity"])
    with link_to(machine.address) as link:
        hosts = {"shire01": link.entry(machine, identity)}
        clone.inventory = write_inventory(tmp_path / "by-link.yaml", hosts)
        assert "shire01" in clone.done("exec", "-H", "shire01", "--", "cat /etc/hostname").out
        link.stall()
        ended = clone.fab("-t", "2", "exec", "-H", "shire01", "--", "true")
        assert ended.status == 3, ended.both
