"""The second process of a change starts while the first one still reads the facts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks.engine.host import host_program, steps
from tasks.engine.host.questions import Question
from tasks.engine.ssh.channels import Begun
from tasks.engine.ssh.ssh_session import SshSession
from tests.support.simulated_host import OLD, RUN, SERVICE
from tests.support.stand_ins import reported


class Host(SshSession):
    """A session, and its channel and connection: the host answers with these reports. ahead: what was begun ahead."""

    def __init__(self, *words: str) -> None:
        self._words, self.become, self._named = words, (), False
        self.host, self._options = cast(Any, self), cast(Any, SimpleNamespace(command_timeout=None))
        self.endpoint, self._connection = cast(Any, SimpleNamespace(user="deploy")), cast(Any, self)
        self.keeps_program = True
        self.status_event, self.exit_status = cast(Any, SimpleNamespace(wait=lambda _: True)), 0
        self._sent, self._asked = b"", threading.Event()
        self.ahead: list[Begun] = []

    @contextmanager
    def channel(self, *_: object, **__: object) -> Iterator[Host]:
        yield self

    def send(self, data: bytes) -> int:
        self._sent += data
        self._asked.set()
        return len(data)

    def shutdown_write(self) -> None:
        """Ignore it: what is sent has an end."""

    def settimeout(self, seconds: float) -> None:
        """Ignore it: no call waits."""

    def recv(self, _: int) -> bytes:
        self._asked.wait(10)
        words, self._words = self._words, ()
        nonce = self._sent.decode().splitlines()[0]
        return b"".join(reported(nonce, word, OLD) for word in words)

    def begin_ahead(self, begun: Begun) -> None:
        self.ahead.append(begun)

    def keep(self, *_: object) -> None:
        """Ignore it: no step follows."""


@pytest.mark.parametrize(
    ("words", "followed", "begun"),
    [
        ((host_program.DIFFERS, "facts", "end"), True, 1),
        (("facts", "end"), True, 0),
        ((host_program.DIFFERS, "facts", "end"), False, 0),
    ],
)
def test_it_starts_if_the_host_says_that_another_release_serves(
    words: tuple[str, ...], followed: bool, begun: int
) -> None:
    host = Host(*words)
    step = steps.facts(SERVICE, Question(followed=followed))
    host.execute(step, RUN, lambda _: None)
    assert host.ahead == [host._begun(host.placed(step))] * begun
