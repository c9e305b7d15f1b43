"""The channels of a connection: the shell of the next step waits while the last one still runs."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tasks.engine.ssh import channels
from tasks.engine.ssh.byte_stream import LINK_SECONDS
from tasks.engine.ssh.channels import Begun
from tests.support.clone import Clone, make, quicken
from tests.support.front_door import release_of
from tests.support.hosts import Hosts, MakeHosts
from tests.support.paused_run import gated

SHELLS = "pgrep -u deploy -f '^[^ ]*python[0-9.]* -I -S ./__main__.py$'"
"""The interpreters of our steps: busy and waiting ones have the same command line."""


@pytest.fixture(scope="module")
def served(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> tuple[Hosts, Clone]:
    hosts = module_hosts(1)
    clone = make(tmp_path_factory.mktemp("channels"), hosts.inventory)
    quicken(clone)
    clone.done("deploy", "-H", "shire01")
    return hosts, clone


def two_interpreters(hosts: Hosts) -> None:
    """Wait for the interpreter of the lock, and for one that has got nothing yet."""
    waited = hosts[0].sh(f"for _ in $(seq 500); do [ $({SHELLS} -c) = 2 ] && exit; sleep 0.02; done; exit 1")
    assert waited.returncode == 0, hosts[0].sh("ps axww").stdout.decode()


def test_the_next_interpreter_is_begun_while_the_last_step_is_done(served: tuple[Hosts, Clone], tmp_path: Path) -> None:
    hosts, clone = served
    clone.write("service/edit.txt", "begun ahead\n")
    with gated(clone, tmp_path) as gate, clone.start("deploy", "-H", "shire01", "--json") as run:
        assert run.stdout is not None
        next(line for line in run.stdout if json.loads(line).get("phase") == "hook")
        two_interpreters(hosts)
        gate.open()
        run.communicate(timeout=60)
        assert run.returncode == 0
        assert release_of(hosts[0].address) == clone.release()
    ended = hosts[0].sh(f"for _ in $(seq 500); do {SHELLS} >/dev/null || exit 0; sleep 0.02; done; {SHELLS}; exit 1")
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize(("verb", "edited", "begun"), [("status", False, 1), ("deploy", False, 1), ("deploy", True, 2)])
def test_a_step_goes_to_the_process_of_the_last_one(
    served: tuple[Hosts, Clone], verb: str, edited: bool, begun: int
) -> None:
    """The process that holds the run lock can do nothing else."""
    hosts, clone = served
    sessions = "journalctl -q -t sshd -o cat | grep -c '^Starting session' || :"
    hosts[0].sh("echo 'LogLevel VERBOSE' >/etc/ssh/sshd_config.d/verbose.conf && systemctl restart ssh")
    clone.done("deploy", "-H", "shire01")
    if edited:
        clone.write("service/edit.txt", "in the same process\n")
    before = int(hosts[0].sh(sessions).stdout)
    clone.done(verb, "-H", "shire01")
    assert int(hosts[0].sh(sessions).stdout) == before + begun


class Channel:
    """A channel of a stand-in connection. Records the command, and its end."""

    def __init__(self, transport: object) -> None:
        self._transport = transport
        self.begun: list[str] = []
        self.sent = b""
        self.closed = False

    def set_combine_stderr(self, _: bool) -> None:
        """Accept the setting, as paramiko does."""

    def exec_command(self, line: str) -> None:
        self.begun.append(line)

    def settimeout(self, seconds: float) -> None:
        """Ignore it: no call waits."""

    def get_transport(self) -> object:
        return self._transport

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True


class Connection:
    """A connection that keeps the channels it opens."""

    def __init__(self) -> None:
        self.opened: list[Channel] = []
        self.transport = self

    def open_session(self, **_: float) -> Channel:
        self.opened.append(Channel(self))
        return self.opened[-1]


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Connection:
    made = Connection()
    monkeypatch.setattr(channels, "connect", lambda *_: made)
    monkeypatch.setattr(channels, "run_in_thread", lambda work: Done(work()))
    return made


class Done:
    """A future of work done at once."""

    def __init__(self, made: object) -> None:
        self._made = made

    def result(self, timeout: float = 0) -> object:  # noqa: ARG002 - as of a future
        return self._made


def line() -> channels.SharedConnection:
    nothing: Any = None
    return channels.SharedConnection(nothing, nothing)


def test_the_channel_that_was_begun_ahead_is_the_next(connection: Connection) -> None:
    one = line()
    one.open_channel(Begun("a"), Begun("a"))
    channel, _ = one.open_channel(Begun("a"))
    assert channel is connection.opened[1]
    assert [opened.begun for opened in connection.opened] == [["a"], ["a"], []]


def test_one_that_is_open_only_begins_when_it_is_needed(connection: Connection) -> None:
    one = line()
    one.open_channel(Begun("a"))
    channel, _ = one.open_channel(Begun("b"))
    assert channel is connection.opened[1]
    assert channel.begun == ["b"]


def test_another_command_line_is_not_what_was_begun(connection: Connection) -> None:
    one = line()
    one.open_channel(Begun("a"), Begun("a"))
    channel, _ = one.open_channel(Begun("b"))
    assert channel is connection.opened[2]
    assert (channel.begun, connection.opened[1].closed) == (["b"], True)


@pytest.mark.parametrize("followed", [True, False])
def test_one_that_has_ended_before_it_was_needed_is_not_used(connection: Connection, followed: bool) -> None:
    one = line()
    one.open_channel(Begun("a"), Begun("a") if followed else None)
    connection.opened[1].close()
    channel, _ = one.open_channel(Begun("a"))
    assert channel is connection.opened[2]
    assert channel.begun == ["a"]


def test_a_command_that_stays_gets_the_next_step_and_none_is_started_beside_it(connection: Connection) -> None:
    one = line()
    channel, _ = one.open_channel(Begun("a"), stays=True)
    one.keep(channel, Begun("a"))
    assert one.keeps(channel)
    again, _ = one.open_channel(Begun("a"), Begun("a"))
    assert again is channel
    assert not one.keeps(channel)
    assert [opened.begun for opened in connection.opened] == [["a"], ["a"]]


def test_what_is_begun_beside_a_command_that_stays_is_for_the_step_after_the_next(connection: Connection) -> None:
    one = line()
    channel, _ = one.open_channel(Begun("a"), stays=True)
    for _ in range(2):
        one.begin_ahead(Begun("a"))
    one.keep(channel, Begun("a"))
    again, _ = one.open_channel(Begun("a"), Begun("a"))
    after, _ = one.open_channel(Begun("a"), stays=True)
    assert (again, after) == (channel, connection.opened[1])
    assert [opened.begun for opened in connection.opened] == [["a"], ["a"]]


@pytest.mark.parametrize("fault", ["another command", "ended"])
def test_a_command_that_stays_and_cannot_be_used_is_replaced(connection: Connection, fault: str) -> None:
    one = line()
    channel, _ = one.open_channel(Begun("a"), stays=True)
    one.keep(channel, Begun("a"))
    wanted = "b" if fault == "another command" else "a"
    if fault == "ended":
        channel.close()
    again, _ = one.open_channel(Begun(wanted))
    assert again is connection.opened[1]
    assert (again.begun, channel.closed) == ([wanted], True)


def test_a_channel_with_a_connection_of_its_own_is_not_kept(connection: Connection) -> None:
    one = line()
    one.open_channel(Begun("a"), stays=True)
    other = Channel(object())
    one.keep(other, Begun("a"))
    assert not one.keeps(other)
    assert len(connection.opened) == 1


def test_a_host_that_opens_channels_and_takes_nothing_is_given_up(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Channel, data: bytes) -> None:
        raise TimeoutError(len(data))

    limits: list[float] = []
    monkeypatch.setattr(Channel, "sendall", full)
    monkeypatch.setattr(Channel, "settimeout", lambda _, seconds: limits.append(seconds))
    with pytest.raises(TimeoutError):
        line().open_channel(Begun("a", b"first"))
    assert limits == [LINK_SECONDS]
    assert connection.opened


def test_so_is_one_that_takes_a_byte_at_a_time(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = threading.Event()

    def slow(_: Channel, data: bytes) -> None:
        assert closed.wait(60)
        raise OSError(len(data))

    monkeypatch.setattr(Channel, "sendall", slow)
    monkeypatch.setattr(Channel, "close", lambda _: closed.set())
    monkeypatch.setattr(channels, "PATIENCE", 0.05)
    with pytest.raises(TimeoutError):
        line().open_channel(Begun("a", b"first"))
    assert connection.opened


class Slow:
    """A channel whose host takes no more than a byte at a time: a write ends only once the channel is closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def sendall(self, data: bytes) -> None:
        assert self.closed.wait(60)
        raise OSError(len(data))

    def close(self) -> None:
        self.closed.set()


def test_a_host_that_takes_a_byte_at_a_time_is_given_up_whatever_is_sent() -> None:
    """Once: each byte began a new limit, so a command line and a script of 2 kB could take a day."""
    with pytest.raises(TimeoutError, match=r"did not take what was sent within 0\.05 s"):
        channels.send(Slow(), [b"script"], 0.05)


def test_a_connection_that_ends_while_something_is_sent_is_no_slow_host() -> None:
    channel = Slow()
    channel.close()
    with pytest.raises(OSError, match=r"^6$") as lost_one:
        channels.send(channel, [b"script"], 60)
    assert not isinstance(lost_one.value, TimeoutError)
