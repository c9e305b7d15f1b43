"""The health command of a process: it runs as the service, which may answer anything."""

from __future__ import annotations

import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from templates.host import command

HEAD = struct.Struct(">cI")


def message(kind: bytes, data: bytes) -> bytes:
    return HEAD.pack(kind, len(data)) + data


@contextmanager
def server(answer: Callable[[socket.socket], object], file: str = "health.sock") -> Iterator[str]:
    """Answer one connection; yield a name whose socket in /run this is."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{folder}/{file}")
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                connection.recv(1 << 16)
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"..{folder}"
        thread.join()


def prints_for_ever(connection: socket.socket) -> None:
    while True:
        connection.sendall(message(b"1", b"y\n" * 1000))


@pytest.mark.parametrize(
    ("sent", "status", "text"),
    [
        (message(b"2", b"one\ntwo\n") + message(b"X", struct.pack(">i", 3)), 3, "two"),
        (message(b"X", struct.pack(">i", 0)), 0, ""),
        (message(b"F", b"no such process"), None, "no such process"),
        (message(b"X", b"x"), None, "x"),
        (message(b"?", b""), None, "sent a message that run-server never sends"),
        (b"", None, "its unit ended without a status"),
    ],
)
def test_its_end_is_what_the_server_says(sent: bytes, status: int | None, text: str) -> None:
    with server(lambda connection: connection.sendall(sent)) as name:
        ended = command.result(name, ["ping"], "worker", "a" * 12, 10)
    assert ended.status == status
    assert ended.text.endswith(text)


def test_one_that_prints_for_ever_ends_at_its_time() -> None:
    """Once: it would have kept a guard from its probation for ever."""
    with server(prints_for_ever) as name:
        ended = command.result(name, ["yes"], "worker", "a" * 12, 0.5)
    assert ended == (None, "no end within 0.5 s")


def test_one_that_says_nothing_ends_at_its_time() -> None:
    with server(lambda _: threading.Event().wait(1)) as name:
        assert command.result(name, ["sleep"], "worker", "a" * 12, 0.2) == (None, "no end within 0.2 s")


def test_on_a_host_of_an_older_setup_the_socket_of_all_commands_serves() -> None:
    sent = message(b"X", struct.pack(">i", 0))
    with server(lambda connection: connection.sendall(sent), "run.sock") as name:
        assert command.result(name, ["ping"], "worker", "a" * 12, 10).status == 0
