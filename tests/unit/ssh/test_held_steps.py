"""The steps that a fork of the process performs which holds the run lock: one channel, and the reports on it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks.engine.host import host_program, steps
from tasks.engine.host.steps import Activation
from tasks.engine.ssh.session import LinkLost
from tasks.engine.ssh.ssh_session import SshSession
from tests.support.simulated_host import NEW, RUN, SERVICE
from tests.support.stand_ins import reported

NONCE = "0123456789abcdef"
ACTIVATE = steps.activate(SERVICE, Activation("deploy", NEW, None))


class Held(SshSession):
    """A session, and its connection and the channel of the run lock. words: reports of the host, with their texts."""

    def __init__(self, *words: tuple[str, str]) -> None:
        self._words, self.become, self._named = words, (), False
        self.host, self._options = cast(Any, self), cast(Any, SimpleNamespace(command_timeout=None))
        self.endpoint, self._connection = cast(Any, SimpleNamespace(user="deploy")), cast(Any, self)
        self.keeps_program, self.name, self.active = True, "shire01", True
        self.sent, self.ended, self.kept = b"", False, 0
        self.hold(self, NONCE)

    @contextmanager
    def channel(self, *_: object, **__: object) -> Iterator[Held]:
        yield self

    def send(self, data: bytes) -> int:
        self.sent += data
        return len(data)

    def shutdown_write(self) -> None:
        self.ended = True

    def settimeout(self, seconds: float) -> None:
        """Ignore it: no call waits."""

    def recv(self, _: int) -> bytes:
        words, self._words = self._words, ()
        assert words, "nothing is read after the end of the step"
        return b"".join(reported(NONCE, *word) for word in words)

    def keep(self, *_: object) -> None:
        self.kept += 1


@pytest.mark.parametrize("status", [0, 3])
def test_a_step_ends_with_its_process_and_the_channel_stays_open(status: int) -> None:
    host = Held(("end", "ok"), (host_program.OVER, str(status)))
    assert host.execute(ACTIVATE, RUN, lambda _: None).exit == status
    assert not host.ended
    assert host.sent.startswith(f"{NONCE}\n".encode())


@pytest.mark.parametrize(("login", "place"), [("deploy", "/copy"), ("deploy", ""), ("root", "/copy"), ("root", "")])
def test_a_step_that_another_follows_ends_with_its_report(login: str, place: str) -> None:
    """Once the process that was sent the program for root would have been awaited to its end."""
    host = Held(("end", "ok"))
    host.endpoint = cast(Any, SimpleNamespace(user=login))
    step = steps.libraries(SERVICE, {})._replace(place=place)
    assert host.execute(step, RUN, lambda _: None).ended
    assert (host.ended, host.kept) == (False, 1)


@pytest.mark.parametrize(("told", "status"), [("256", 1), ("-2", 1), ("9" * 5000, 1), ("\u0663", 1), ("", 1)])
def test_a_status_that_no_process_has_is_a_failure(told: str, status: int) -> None:
    assert Held((host_program.OVER, told)).execute(ACTIVATE, RUN, lambda _: None).exit == status


def test_a_process_that_was_killed_leaves_it_open_how_far_it_came() -> None:
    with pytest.raises(LinkLost, match="how far activate came is not known"):
        Held(("step", "start"), (host_program.OVER, "-1")).execute(ACTIVATE, RUN, lambda _: None)


def test_no_sign_of_life_comes_between_the_pieces_of_a_payload() -> None:
    host = Held(("step", "receive"), (host_program.OVER, "0"))
    first, last = threading.Event(), threading.Event()

    def payload() -> Iterator[bytes]:
        first.set()
        last.wait(60)
        yield b"payload"

    sending = threading.Thread(target=host.execute, args=(ACTIVATE, RUN, lambda _: None, payload()))
    sending.start()
    assert first.wait(60)
    before = host.sent
    host.beat()
    assert host.sent == before
    last.set()
    sending.join(60)
    host.beat()
    assert host.sent.endswith(b"\n")


def test_once_it_is_let_go_no_sign_is_sent() -> None:
    host = Held()
    host.forget = lambda _: None  # type: ignore[attr-defined]
    host.let_go()
    host.beat()
    assert host.sent == b""
