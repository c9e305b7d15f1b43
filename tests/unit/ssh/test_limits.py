"""A peer that exceeds the limits of SSH, before and after the check of its key: memory stays bounded."""

from __future__ import annotations

import socket
import struct
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from paramiko import Channel, SSHException, Transport
from paramiko.common import MSG_CHANNEL_CLOSE, MSG_CHANNEL_DATA, MSG_CHANNEL_OPEN_SUCCESS
from paramiko.packet import Packetizer

from tasks.engine.ssh import auth
from tasks.engine.ssh.byte_stream import Wire
from tasks.engine.ssh.compression import SelectiveCompressor
from tasks.engine.ssh.host_keys import Trust
from tasks.engine.ssh.limits import PACKET, Breach, Inflating
from tests.promises.words import CALM
from tests.support.false_sshd import (
    DATA,
    DEBUG,
    EXT_INFO,
    EXTENDED,
    IGNORE,
    KEXINIT,
    MB,
    Open,
    claims,
    endless,
    exchanges,
    inflates,
    key,
    overflows,
    packet,
    sends,
    serve,
)

LIES: dict[str, tuple[Callable[[Any, Open], None], str]] = {
    "a packet that inflates to a thousand times its size": (inflates, "inflates to more than the 262144"),
    "data past the window": (overflows(DATA), "more than the window of a channel was sent"),
    "errors past the window": (overflows(EXTENDED), "more than the window of a channel was sent"),
    "short packets that claim to be long": (claims, "more than the window of a channel was sent"),
    "a long packet": (sends(packet(IGNORE, bytes(300_000))), "a packet of [0-9]+ bytes"),
    "extensions without number": (sends(packet(EXT_INFO, 2**32 - 1)), "4294967295 extensions were announced"),
    "key exchanges without end": (exchanges, "more than 60 key exchanges were begun in a minute"),
    "a packet of no kind": (sends(packet(200)), "a packet came that cannot be read"),
    "what is no text": (sends(packet(EXT_INFO, 1, b"\xff\xfe", b"")), "a packet came that cannot be read"),
}  # fmt: skip


def client(end: socket.socket, host: Any) -> Any:
    """Return our side, set up as for every host."""
    made = auth.transport_class(Trust((host,), (), "here"))(Wire(end))
    made.use_compression(True)
    made.auth_timeout = made.banner_timeout = 60
    return made


@contextmanager
def joined(lie: Callable[[Any, Open], None]) -> Iterator[tuple[Any, Any]]:
    """Yield a client with a running command whose output it does not read, and the channel; then the server lies."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        host = key()
        server, ends = serve(theirs, host, lie), client(ours, host)
        ends.start_client(timeout=60)
        ends.auth_publickey("deploy", key())
        channel = ends.open_session(timeout=60)
        channel.exec_command("true")
        yield ends, channel
        ends.close()
        server.close()


@contextmanager
def measured(limit: int) -> Iterator[None]:
    """Fail if the block holds more bytes than these at a time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def ended(transport: Any) -> None:
    """Wait for its end."""
    transport.join(60)
    assert not transport.is_alive()


@pytest.mark.promise(CALM, "a host that breaks the limits of SSH")
@pytest.mark.parametrize("kind", LIES)
def test_what_breaks_the_limits_ends_the_connection(kind: str) -> None:
    lie, told = LIES[kind]
    with measured(16 * MB), joined(lie) as (transport, channel):
        ended(transport)
        assert channel.recv(1) in (b"", b"\0")
        with pytest.raises(Breach, match=told):
            raise transport.breach


GREETINGS = {
    "a packet without an end": (b"SSH-2.0-x\r\n" + struct.pack(">IBB", 2**32 - 4, 4, 20), "4294967[0-9]+ bytes"),
    "a packet that takes long to read": (b"SSH-2.0-x\r\n" + struct.pack(">IBB", 199_996, 4, 20), "35000 are allowed"),
    "a line without an end": (b"", "banner"),
}  # fmt: skip


@pytest.mark.promise(CALM, "a stranger on the network who answers for a host")
@pytest.mark.parametrize("kind", GREETINGS)
def test_a_stranger_fills_no_memory_before_a_key_is_judged(kind: str) -> None:
    begin, told = GREETINGS[kind]
    ours, theirs = socket.socketpair()
    transport = client(ours, key())
    with measured(16 * MB), ours, theirs:
        theirs.settimeout(60)
        began = time.monotonic()
        transport.active = True
        transport.start()
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            endless(begin)(theirs)
        ended(transport)
        assert time.monotonic() - began < 20
    with pytest.raises(SSHException, match=told):
        raise transport.saved_exception


def test_a_server_that_wants_to_choose_the_numbers_of_a_key_exchange_is_left() -> None:
    """Once: with numbers of 8192 bits each exchange stopped all other threads for up to 10 s."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server, made = Transport(theirs), client(ours, key())
        server.add_server_key(key())
        server._preferred_kex = ("diffie-hellman-group-exchange-sha256",)
        server._modulus_pack = object()
        server.start_server(event=threading.Event())
        with pytest.raises(SSHException, match="no acceptable kex algorithm"):
            made.start_client(timeout=60)
        server.close()


def test_packets_are_longer_once_keys_have_been_exchanged() -> None:
    with joined(lambda *_: None) as (transport, _):
        assert transport.packetizer._initial_kex_done


def test_a_peer_that_keeps_to_the_window_is_read_to_the_end() -> None:
    size = 20 * MB

    def lie(_: Any, rules: Open) -> None:
        rules.begun[0].sendall(bytes(size))
        rules.begun[0].close()

    with joined(lie) as (transport, channel):
        channel.settimeout(60)
        read = 0
        while data := channel.recv(65536):
            read += len(data)
        assert (read, transport.breach) == (size, None)


def test_what_a_peer_says_for_debugging_costs_no_time() -> None:
    def lie(server: Any, rules: Open) -> None:
        sends(packet(DEBUG, 0, bytes(200_000), b""))(server, rules)
        rules.begun[0].close()

    with joined(lie) as (_, channel):
        began = time.process_time()
        assert channel.recv(1) == b""
        assert time.process_time() - began < 2


@pytest.mark.parametrize("size", [1, 32_768, PACKET])
def test_packets_up_to_the_limit_are_inflated(size: int) -> None:
    packer, inflate = zlib.compressobj(), Inflating()
    for data in (bytes(size), bytes(range(256)) * (size // 256), b"x"):
        assert inflate(packer.compress(data) + packer.flush(zlib.Z_PARTIAL_FLUSH)) == data
    with pytest.raises(Breach):
        inflate(packer.compress(bytes(PACKET + 1)) + packer.flush(zlib.Z_PARTIAL_FLUSH))


def test_paramiko_still_has_what_the_limits_hook_into() -> None:
    """These names are private: a new paramiko may move them, and the limits would have no effect."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        made = client(ours, key())
        assert type(made.packetizer).__name__ == "Packets"
        made.close()
    assert {"_read_timeout", "read_all", "read_message"} <= vars(Packetizer).keys()
    assert not made.packetizer._initial_kex_done
    hooks = {"_parse_ext_info", "_parse_debug", "_negotiate_keys", "_compression_info", "_channel_handler_table"}
    assert {*hooks, "_preferred_kex"} <= vars(Transport).keys()
    assert made.local_kex_init is None
    assert made._handler_table[KEXINIT] == made._negotiate_keys
    table = Transport._channel_handler_table
    assert (table[DATA], table[EXTENDED]) == (Channel._feed, Channel._feed_extended)
    assert made._handler_table[EXT_INFO] == made._parse_ext_info
    assert made._handler_table[MSG_CHANNEL_OPEN_SUCCESS] == made._parse_channel_open_success
    assert "_send_message" in Transport._send_user_message.__code__.co_names
    assert made._compression_info["zlib@openssh.com"] == (SelectiveCompressor, Inflating)
    channel = Channel(0)
    assert (len(channel.in_buffer), len(channel.in_stderr_buffer), channel.in_window_size) == (0, 0, 0)


SENT_LATE: dict[str, Callable[[Any], object]] = {
    "the end of input": lambda channel: channel.shutdown_write(),
    "input": lambda channel: channel.send(b"late"),
}


@pytest.mark.parametrize("late", SENT_LATE)
def test_nothing_is_sent_on_a_channel_after_its_close(late: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: an account whose shell ended at once lost us the connection: sshd ends it for a message on no channel."""
    built, closed, kinds = threading.Event(), threading.Event(), []

    def close(server: Any, rules: Open) -> None:
        assert built.wait(60)
        # The next channel gets the same number, as sshd does it.
        server._channel_counter = rules.begun[0].chanid
        rules.begun[0].close()

    with joined(close) as (transport, channel):
        send, put = transport._send_user_message, transport.packetizer.send_message

        def delay(message: Any) -> None:
            if threading.current_thread() is threading.main_thread():
                built.set()
                assert closed.wait(60)
            send(message)

        def record(message: Any) -> None:
            put(message)
            kinds.append(message.asbytes()[0])
            if kinds[-1] == MSG_CHANNEL_CLOSE:
                closed.set()

        monkeypatch.setattr(transport, "_send_user_message", delay)
        monkeypatch.setattr(transport.packetizer, "send_message", record)
        SENT_LATE[late](channel)
        assert kinds[-1] == MSG_CHANNEL_CLOSE
        following = transport.open_session(timeout=60)
        assert following.remote_chanid == channel.remote_chanid
        following.sendall(b"on the next channel")
        assert kinds[-1] == MSG_CHANNEL_DATA
