"""The wire to a port: early bytes of the peer are kept, and helper processes end with it."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tasks.engine.ssh import byte_stream
from tasks.engine.ssh.byte_stream import Wire

QUICKACK = getattr(socket, "TCP_QUICKACK", None)


@pytest.fixture
def ends() -> Iterator[tuple[Wire, socket.socket]]:
    """Our end and the peer's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Wire(ours), theirs


@pytest.mark.parametrize(
    ("said", "heard", "speaks"),
    [
        (b"SSH-2.0-x\r\n\0\0\1\2", "", True),
        (b"Exceeded MaxStartups\r\n", "Exceeded MaxStartups", False),
        (b"be warned\nof this\r\nSSH-2.0-x\r\n", "be warned of this", True),
        (b"220 mail\xff\x1b[2J\n", "220 mail\ufffd\x1b[2J", False),
        (b"", "", False),
    ],
)
def test_how_the_other_end_began_is_kept(
    ends: tuple[Wire, socket.socket], said: bytes, heard: str, speaks: bool
) -> None:
    line, theirs = ends
    theirs.sendall(said)
    theirs.close()
    assert b"".join(iter(lambda: line.recv(3), b"")) == said
    assert (line.greeting, line.is_ssh, line.ended) == (heard, speaks, True)


def test_no_more_is_kept_than_a_beginning(ends: tuple[Wire, socket.socket]) -> None:
    line, theirs = ends
    for _ in range(100):
        theirs.sendall(b"x" * 4096)
        assert line.recv(4096) == b"x" * 4096
    assert len(line.greeting) == 200
    assert not line.ended


def test_what_was_there_for_it_alone_ends_with_it_and_once(ends: tuple[Wire, socket.socket]) -> None:
    line, _ = ends
    ended: list[str] = []
    line.on_close(lambda: ended.append("before"))
    line.close()
    line.on_close(lambda: ended.append("after"))
    line.close()
    assert ended == ["before", "after"]


def test_the_other_end_sees_the_end_at_once_even_while_somebody_reads(ends: tuple[Wire, socket.socket]) -> None:
    """Once: a port was reused before its user had hung up: three connections were in login where two may be."""
    line, theirs = ends
    # As the kernel does for a thread that waits in poll.
    with line.dup():
        line.close()
        theirs.settimeout(5)
        assert theirs.recv(1) == b""


def test_a_program_is_the_other_end_and_its_complaints_are_kept() -> None:
    line = byte_stream.run_proxy("sh -c 'echo SSH-here; echo one >&2; echo two >&2; cat; echo gone >&2'")
    try:
        assert line.recv(100) == b"SSH-here\n"
        line.sendall(b"through")
        assert line.recv(100) == b"through"
        line.shutdown(socket.SHUT_WR)
        assert line.recv(100) == b""
        assert line.stderr == ("one", "two", "gone")
    finally:
        line.close()


def test_of_complaints_without_an_end_the_last_are_kept() -> None:
    line = byte_stream.run_proxy("sh -c 'head -c 20000000 /dev/zero | tr \\\\0 x >&2; echo >&2; echo the last >&2'")
    try:
        assert line.recv(100) == b""
        assert line.stderr[-1] == "the last"
        assert sum(map(len, line.stderr)) < 5000
    finally:
        line.close()


def test_a_program_that_would_stay_is_ended() -> None:
    line = byte_stream.run_proxy("sh -c 'echo $$; exec sleep 1000'")
    pid = line.recv(100).decode().strip()
    line.close()
    assert subprocess.run(["kill", "-0", pid], capture_output=True, check=False).returncode != 0


class Stream:
    """A peer that sends output; asked: the options set."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, int]] = []

    def recv(self, size: int) -> bytes:
        return b"SSH-2.0-stub\r\n"[:size]

    def setsockopt(self, *option: int) -> None:
        level, name, value = option
        self.asked.append((level, name, value))


@pytest.mark.skipif(QUICKACK is None, reason="only Linux lets a program ask for this")
def test_what_comes_is_acknowledged_at_once_each_time() -> None:
    stream = Stream()
    prompt = Wire(stream, prompt=True)
    assert prompt.recv(8) == b"SSH-2.0-"
    prompt.recv(8)
    assert stream.asked == [(socket.IPPROTO_TCP, QUICKACK, 1)] * 2


def test_a_stream_that_is_no_socket_is_asked_for_nothing() -> None:
    stream = Stream()
    Wire(stream).recv(8)
    assert stream.asked == []


def test_another_end_that_takes_nothing_is_given_up(
    ends: tuple[Wire, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """paramiko retries forever, and its further output waits for that."""
    monkeypatch.setattr(byte_stream, "STUCK_SECONDS", 0.3)
    line, theirs = ends
    line.settimeout(0.05)

    def fill() -> None:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with suppress(TimeoutError):
                line.send(bytes(65536))

    with pytest.raises(ConnectionError, match="takes nothing"):
        fill()
    theirs.recv(1_000_000)
    assert line.send(b"x") == 1
