"""One command on a host, without input: how long it may be silent, and how a request to stop reaches it."""

from __future__ import annotations

import base64
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import pytest

from tasks.engine.errors import LoopError
from tasks.engine.fleet import one_off
from tasks.engine.fleet.member import Member
from tasks.engine.host.protocol import Report, Transcript
from tasks.engine.host.steps import Command, HostStep
from tasks.engine.parallel import Stop
from tasks.engine.ssh.session import LinkLost, Run
from tests.support.small_service import SERVICE


class Lines:
    """Reads a report per line: word and text."""

    def feed(self, data: bytes) -> Iterable[Report]:
        for line in data.decode().splitlines():
            word, _, text = line.partition(" ")
            yield Report(word, text)


class Session:
    """A session whose only channel is one end of a pair of sockets."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def with_program(self, step: HostStep, attempt: Callable[[HostStep], Transcript]) -> Transcript:
        return attempt(step)

    @contextmanager
    def begun(self, *_: object) -> Iterator[tuple[socket.socket, Lines, Iterator[bytes]]]:
        self._channel.settimeout(300)
        with self._channel:
            yield self._channel, Lines(), iter(())


class OnHost(Member):
    """A member that is ready for a command."""

    def act_for_service(self) -> Any:
        return None


@pytest.fixture
def host() -> Iterator[tuple[Member, socket.socket]]:
    """Yield a member, and the host's end of its channel."""
    ours, theirs = socket.socketpair()
    named = cast(Any, type("Host", (), {"name": "shire01"}))
    theirs.settimeout(300)
    with theirs:
        yield OnHost(named, SERVICE, Run("r", "{}"), cast(Any, None), session=cast(Any, Session(ours))), theirs


def request(stop: Stop | None = None, silence: float | None = None, seconds: float | None = None) -> one_off.Request:
    command = Command(("true",), "web", "")
    return one_off.Request(command, None, lambda *_: None, feeds=False, silence=silence, seconds=seconds, stop=stop)


def test_a_command_that_says_nothing_is_given_up(host: tuple[Member, socket.socket]) -> None:
    member, theirs = host
    theirs.sendall(b"begun \n")
    with pytest.raises(LoopError, match="the command has said nothing for 1 s") as failed:
        one_off.run(member, request(silence=1))
    assert failed.value.where == "shire01"
    # Its connection is closed, which ends the command.
    while theirs.recv(100):
        pass


def test_a_request_to_stop_interrupts_the_command_once(host: tuple[Member, socket.socket]) -> None:
    member, theirs = host
    stop, told = Stop(), bytearray()

    def serve() -> None:
        theirs.sendall(b"begun \n")
        # The end of its input: it has begun.
        told.extend(theirs.recv(100))
        stop.set(signal.SIGTERM)
        while b"S" not in told or len(told) < 11:
            told.extend(theirs.recv(100))
        theirs.sendall(b"exit " + base64.b64encode(struct.pack(">i", 130)) + b"\n")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert one_off.run(member, request(stop, 300)) == 130
    finally:
        thread.join()
    assert bytes(told) == struct.pack(">cI", b"E", 0) + struct.pack(">cI", b"S", 1) + b"2"


def test_a_command_that_heeds_no_request_to_stop_is_cut(
    host: tuple[Member, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    member, theirs = host
    monkeypatch.setattr(one_off, "_GRACE", 1)
    stop = Stop()

    def serve() -> None:
        theirs.sendall(b"begun \n")
        # The end of its input: it has begun.
        theirs.recv(100)
        stop.now()

    threading.Thread(target=serve).start()
    with pytest.raises(LoopError, match="it was stopped, and did not end within 1 s"):
        one_off.run(member, request(stop))


@contextmanager
def dripping(theirs: socket.socket, first: bytes = b"") -> Iterator[None]:
    """Let the host print a byte every tenth of a second for the block."""
    ended = threading.Event()

    def drip() -> None:
        # The other side may have ended.
        with suppress(OSError):
            theirs.sendall(first)
            while not ended.wait(0.1):
                theirs.sendall(b"\n")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_host_that_prints_and_begins_no_command_is_given_up(
    host: tuple[Member, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: a byte a minute kept `fab backup` at work for ever."""
    member, theirs = host
    monkeypatch.setattr(one_off, "_BEGIN", 1)
    with dripping(theirs), pytest.raises(LinkLost, match="the host did not begin the command within 1 s"):
        one_off.run(member, request())


def test_a_request_to_stop_is_heeded_before_a_command_has_begun(host: tuple[Member, socket.socket]) -> None:
    member, theirs = host
    stop = Stop()
    stop.now()
    with dripping(theirs), pytest.raises(LoopError, match="it was stopped before the host began the command"):
        one_off.run(member, request(stop))


def test_a_command_that_goes_on_saying_something_is_given_up_in_the_end(host: tuple[Member, socket.socket]) -> None:
    member, theirs = host
    with dripping(theirs, b"begun \n"), pytest.raises(LoopError, match="the command did not end within 1 s"):
        one_off.run(member, request(silence=60, seconds=1))


def test_a_host_that_takes_nothing_is_given_up_for_its_silence(
    host: tuple[Member, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: the end of the input was sent by the thread that listens, which waited for the host for ever."""
    member, theirs = host
    freed = threading.Event()
    monkeypatch.setattr(one_off._Sender, "send", lambda *_: freed.wait(60))
    theirs.sendall(b"begun \n")
    try:
        with pytest.raises(LoopError, match="the command has said nothing for 1 s"):
            one_off.run(member, request(silence=1))
    finally:
        freed.set()
