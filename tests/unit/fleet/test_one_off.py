"""One command on a host, without input: how long it may be silent, and how a request to stop reaches it."""

from __future__ import annotations

import base64
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from tasks.engine.errors import LoopError
from tasks.engine.fleet import one_off
from tasks.engine.fleet.member import Member
from tasks.engine.host.protocol import Report, Transcript
from tasks.engine.host.steps import Command, HostStep
from tasks.engine.parallel import Stop
from tasks.engine.ssh.session import Run
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


def request(stop: Stop | None = None, silence: float | None = None) -> one_off.Request:
    command = Command(("true",), "web", "")
    return one_off.Request(command, None, lambda *_: None, feeds=False, silence=silence, stop=stop)


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
    stop.now()
    theirs.sendall(b"begun \n")
    with pytest.raises(LoopError, match="it was stopped"):
        one_off.run(member, request(stop))
