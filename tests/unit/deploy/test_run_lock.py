"""The lock of a run: a run that takes it gets the last line of the host's history, and detects another run's work."""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks.engine.deploy import run_lock
from tasks.engine.deploy.run_lock import Claim, RunLocks
from tasks.engine.errors import LoopError
from tasks.engine.host import history, host_program, layout, steps
from tasks.engine.host.steps import Activation, HostStep
from tasks.engine.parallel import run_in_thread
from tasks.engine.ssh.channels import Begun
from tasks.engine.ssh.session import LinkLost
from tasks.engine.ssh.ssh_session import SshSession
from tests.support.simulated_host import NEW, OLD, RUN, SERVICE, SimulatedHost, simulated_host
from tests.support.stand_ins import reported

__all__ = ["simulated_host"]


def line(run: str, state: str) -> str:
    record = {"time": "2026-01-01T00:00:00Z", "run": run, "action": "deploy", "release": OLD, "state": state, "who": {}}
    return json.dumps(record)


class Host(SshSession):
    """A member, and its session: the host grants the lock at once, and reports the last line of its history."""

    def __init__(self, last: str) -> None:
        self.last, self.become, self.service, self.run = last, (), SERVICE, RUN
        self.host = cast(Any, self)
        self.endpoint, self._named = cast(Any, SimpleNamespace(user="deploy")), False
        self.name, self.told = "shire01", b""
        self.keeps_program = self.kept = True
        self.ahead: list[tuple[Begun, Begun | None]] = []

    def connect(self) -> Host:
        return self

    @contextmanager
    def channel(self, begun: Begun, seconds: float | None, *, ahead: Begun | None = None, **_: bool) -> Iterator[Host]:  # noqa: ARG002 - of a session
        self.ahead.append((begun, ahead))
        self.kept = host_program.place(layout.root(SERVICE)).encode() in begun.first
        yield self

    def sendall(self, data: bytes) -> None:
        nonce = data.decode().splitlines()[0]
        self.told = reported(nonce, "last", self.last) + reported(nonce, "held", RUN.id)

    def settimeout(self, seconds: float) -> None:
        """Ignore it: no call waits."""

    def close(self) -> None:
        """Do nothing: no connection is open."""

    def recv(self, size: int) -> bytes:
        told, self.told = self.told[:size], self.told[size:]
        return told


@pytest.mark.parametrize(
    ("seen", "last", "moved"),
    [
        ((line("a", "started"), line("a", "done")), line("a", "done"), False),
        ((), "", False),
        # Another run has begun or gone on between the facts and the lock.
        ((line("a", "done"),), line("b", "done"), True),
        ((line("a", "probation"),), line("a", "done"), True),
        ((), line("b", "done"), True),
        ((line("a", "done"),), line("a", "done")[:40], True),
    ],
)
def test_what_was_done_meanwhile_is_noticed(seen: tuple[str, ...], last: str, moved: bool) -> None:
    locks = RunLocks()
    claim = Claim("restart", OLD, history.parse(seen)[-1:])
    assert locks.take(cast("Any", Host(last)), claim, 0, lambda _: None) is moved
    locks.release()


def test_the_host_tells_the_last_line(simulated_host: SimulatedHost) -> None:
    simulated_host.release(NEW)
    hold = steps.hold(SERVICE, "deploy", NEW, 0)
    assert simulated_host.execute(hold) == 0
    assert (simulated_host.transcript.last("held"), simulated_host.transcript.last("last")) == (RUN.id, "")
    assert simulated_host.execute(steps.activate(SERVICE, Activation("deploy", NEW, None))) == 0
    assert simulated_host.execute(hold) == 0
    (told,) = history.parse(simulated_host.transcript.all("last"))
    assert (told.action, told.release, told.state) == ("deploy", NEW, "done")


class Forgetful(Host):
    """A host without a copy of the program: it reports that, and grants the lock once the program is sent."""

    def sendall(self, data: bytes) -> None:
        self.sent.append(self.kept)
        if self.kept:
            self.told = reported(data.decode().splitlines()[0], "program", "missing")

    sent: list[bool]


def test_the_program_is_sent_where_the_host_does_not_keep_it() -> None:
    host = Forgetful("")
    host.sent = []
    with pytest.raises(LoopError, match="the host gave no reason"):
        RunLocks().take(cast(Any, host), Claim("deploy", NEW, ()), 0, lambda _: None)
    assert host.sent[0]
    assert not any(host.sent[1:])
    assert not host.keeps_program


def test_a_step_is_started_ahead_only_if_it_is_known_how_it_begins() -> None:
    """After a deploy account's step by its copy comes such another; after root's setup, `hold` with the program."""
    host = Host("")
    setup, hold = HostStep("setup", "{}", 60, root=True, starts_next=True), steps.hold(SERVICE, "deploy", NEW, 0)
    for host.keeps_program in (True, False):
        for step in (setup, setup._replace(starts_next=False), hold):
            with host.begun(host.placed(step), RUN, 1):
                pass
    by_copy, sent = host.ahead[2][0], host.ahead[5][0]
    assert [ahead for _, ahead in host.ahead] == [None, None, by_copy, sent, None, None]
    assert zlib.compress(host_program.text().encode()) in sent.first


class Endless(Host):
    """A host that sends output forever, and never grants the lock."""

    def recv(self, size: int) -> bytes:
        return b"x\n" * (size // 2)


def test_a_host_that_talks_without_an_end_gives_no_lock() -> None:
    with pytest.raises(LinkLost, match="or did not finish in time"):
        RunLocks().take(cast(Any, Endless("")), Claim("deploy", NEW, ()), -30, lambda _: None)


class Busy(Host):
    """A host that names holders of the lock without an end."""

    def sendall(self, data: bytes) -> None:
        self.told = reported(data.decode().splitlines()[0], "busy", "{}") * 50_000


def test_holders_without_an_end_are_not_all_shown() -> None:
    shown: list[object] = []
    with pytest.raises(LoopError, match="another run is at work here"):
        RunLocks().take(cast(Any, Busy("")), Claim("deploy", NEW, ()), 10, shown.append)
    assert 1000 < len(shown) < 5000


def test_a_lock_that_cannot_be_kept_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "_HEARTBEAT", 0.01)
    beats: list[bytes] = []

    class Bad(Host):
        def send(self, data: bytes) -> None:
            raise EOFError(data)

    class Good(Host):
        def send(self, data: bytes) -> None:
            beats.append(data)

    locks = RunLocks()
    for host in (Bad(""), Good("")):
        locks.take(cast(Any, host), Claim("deploy", NEW, ()), 0, lambda _: None)
    ends = time.monotonic() + 10
    while len(beats) < 3 and time.monotonic() < ends:
        time.sleep(0.01)
    locks.release()
    assert len(beats) >= 3


def test_a_host_that_takes_nothing_holds_up_neither_another_lock_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Like a host that asks for new keys and sends none: paramiko waits for them, with every byte."""
    monkeypatch.setattr(run_lock, "_HEARTBEAT", 0.01)
    monkeypatch.setattr(run_lock, "LINK_SECONDS", 0.1)
    freed, stuck, beats = threading.Event(), threading.Event(), threading.Semaphore(0)

    class Stuck(Host):
        def send(self, _: bytes) -> None:
            stuck.set()
            freed.wait(60)

    class Good(Host):
        def send(self, _: bytes) -> None:
            beats.release()

    class Late(Host):
        @contextmanager
        def channel(
            self, begun: Begun, seconds: float | None, *, ahead: Begun | None = None, **_: bool
        ) -> Iterator[Host]:
            freed.wait(60)
            with super().channel(begun, seconds, ahead=ahead) as channel:
                yield channel

    def take(host: Host) -> None:
        locks.take(cast(Any, host), Claim("deploy", NEW, ()), 0, lambda _: None)

    locks = RunLocks()
    late = threading.Thread(target=take, args=(Late(""),))
    take(Stuck(""))
    assert stuck.wait(60)
    late.start()
    try:
        taken = run_in_thread(lambda: take(Good("")))
        taken.result(10)
        assert all(beats.acquire(timeout=60) for _ in range(3))
        began = time.monotonic()
        locks.release()
        assert time.monotonic() - began < 10
    finally:
        freed.set()
        late.join(60)


def test_a_host_that_takes_a_byte_at_a_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "_PATIENCE", 0.05)
    closed = threading.Event()

    class Slow(Host):
        def sendall(self, data: bytes) -> None:
            assert closed.wait(30)
            raise OSError(len(data))

        def close(self) -> None:
            closed.set()

    with pytest.raises(LinkLost, match="or did not finish in time"):
        RunLocks().take(cast(Any, Slow("")), Claim("deploy", NEW, ()), 0, lambda _: None)
