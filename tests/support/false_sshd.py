"""Servers by paramiko that break the SSH protocol, below any output of a host."""

from __future__ import annotations

import io
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from paramiko import AUTH_SUCCESSFUL, OPEN_SUCCEEDED, Ed25519Key, Message, ServerInterface, Transport

MB = 1024**2
IGNORE, EXT_INFO, DEBUG, KEXINIT, DATA, EXTENDED = 2, 7, 4, 20, 94, 95


def key() -> Any:
    """Make a new key."""
    text = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return Ed25519Key(file_obj=io.StringIO(text.decode()))


class Open(ServerInterface):  # type: ignore[misc]  # paramiko is untyped
    """A server that accepts every login and runs no command. begun: the channels of those commands."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.asked = threading.Event()

    def check_auth_publickey(self, username: str, key: Any) -> int:  # noqa: ARG002 - paramiko's signature
        return int(AUTH_SUCCESSFUL)

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002 - paramiko's signature
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:  # noqa: ARG002 - paramiko's signature
        return int(OPEN_SUCCEEDED)

    def check_channel_exec_request(self, channel: Any, command: bytes) -> bool:  # noqa: ARG002 - paramiko's signature
        self.begun.append(channel)
        self.asked.set()
        return True


def serve(end: socket.socket, host: Any, lie: Callable[[Any, Open], None]) -> Any:
    """Serve this end of a connection; lie as soon as the client asks to run something."""
    server, rules = Transport(end), Open()
    server.use_compression(True)
    server.add_server_key(host)

    def lies() -> None:
        if rules.asked.wait(60):
            # The peer hangs up, as it should.
            with suppress(Exception):
                lie(server, rules)

    server.start_server(event=threading.Event(), server=rules)
    threading.Thread(target=lies, daemon=True).start()
    return server


def packet(kind: int, *parts: int | bytes) -> Any:
    """Return a message: its kind, then numbers, strings and truth values."""
    made = Message()
    made.add_byte(bytes([kind]))
    for part in parts:
        if isinstance(part, bool):
            made.add_boolean(part)
        elif isinstance(part, int):
            made.add_int(part)
        else:
            made.add_string(part)
    return made


def bomb(size: int) -> Callable[[bytes], bytes]:
    """Return a compressor that turns any packet into an ignored one of this many zero bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    pieces = [packer.compress(bytes([IGNORE, 0, 0, 0, 0]))]
    pieces += [packer.compress(bytes(MB)) for _ in range(size // MB)]
    data = b"".join([*pieces, packer.flush(zlib.Z_FULL_FLUSH)])
    return lambda _: data


def inflates(server: Any, _: Open) -> None:
    """Send one packet of 200 kB that inflates to 200 MB."""
    server.packetizer.set_outbound_compressor(bomb(200 * MB))
    server._send_message(packet(IGNORE))


def overflows(kind: int) -> Callable[[Any, Open], None]:
    """Send as much as possible, regardless of the channel's window."""

    def lie(server: Any, rules: Open) -> None:
        server.packetizer.set_outbound_compressor(_stored)
        code = () if kind == DATA else (1,)
        message = packet(kind, rules.begun[0].remote_chanid, *code, bytes(30_000))
        for _ in range(200 * MB // 30_000):
            server._send_user_message(message)

    return lie


def _stored(data: bytes) -> bytes:
    """Return data in zlib's format, uncompressed."""
    return b"\0" + len(data).to_bytes(2, "little") + (len(data) ^ 0xFFFF).to_bytes(2, "little") + data


def claims(server: Any, rules: Open) -> None:
    """Send short packets, each of which claims a string of a megabyte: paramiko pads what is missing."""
    message = Message()
    message.add_byte(bytes([DATA]))
    message.add_int(rules.begun[0].remote_chanid)
    message.add_int(MB - 1)
    for _ in range(200):
        server._send_user_message(message)


def exchanges(server: Any, _: Open) -> None:
    """Begin key exchanges, one after the other."""
    while server.is_active():
        server.renegotiate_keys()


def sends(message: Any, times: int = 1) -> Callable[[Any, Open], None]:
    """Send this message."""

    def lie(server: Any, _: Open) -> None:
        for _number in range(times):
            server._send_message(message)

    return lie


@contextmanager
def listening(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """Listen on a port of this machine; answer each connection in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ends: list[socket.socket] = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    end, _ = server.accept()
                    ends.append(end)
                    threading.Thread(target=answered, args=(end,), daemon=True).start()

        def answered(end: socket.socket) -> None:
            with suppress(OSError):
                answer(end)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield int(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for end in ends:
                end.close()


def endless(begin: bytes) -> Callable[[socket.socket], None]:
    """Send these bytes, then zeros for as long as the client reads them."""

    def answer(end: socket.socket) -> None:
        end.sendall(begin)
        for _ in range(400):
            end.sendall(bytes(MB))

    return answer
