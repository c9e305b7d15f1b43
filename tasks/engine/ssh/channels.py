"""The channels of one connection: a command each, begun with as few round trips as SSH lets it."""

from __future__ import annotations

import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import Any, NamedTuple

from tasks.engine.parallel import run_in_thread
from tasks.engine.ssh.connection import LINK_SECONDS, connect
from tasks.engine.ssh.ssh_config import Endpoint, Options


class Begun(NamedTuple):
    """What runs on a channel: a command line, and what it is sent first."""

    line: str
    first: bytes = b""


class _Opened(NamedTuple):
    """A channel, and what has begun on it: nothing as long as it is only open."""

    channel: Any
    begun: Begun | None


class Line:
    """A connection to a host and the channels on it: the next one is opened while the last is still used.

    A round trip less for each script, and one more where its shell is begun ahead as well: sshd reads nothing for a
    command before that has begun. Where sshd allows one session a connection (MaxSessions), and the lock of the run has
    it, every further channel has a connection of its own.
    """

    def __init__(self, endpoint: Endpoint, options: Options) -> None:
        self._endpoint, self._options = endpoint, options
        self._connection = connect(endpoint, options)
        self._next: Future[_Opened] | None = None

    @property
    def active(self) -> bool:
        """Whether the connection is up, as far as we know."""
        return bool(self._connection.transport.is_active())

    def close(self) -> None:
        """End the connection, and with it all its channels."""
        self._connection.close()

    def session(self, begun: Begun, *, followed: bool) -> tuple[Any, Any]:
        """A channel on which this has begun, its output and errors in one stream, and what to close after it.

        followed: the same is wanted once more after this.
        """
        from paramiko import ChannelException

        try:
            channel = self._waiting(begun) or _open(self._connection, begun).channel
            self._next = run_in_thread(partial(_open, self._connection, begun if followed else None))
            return channel, channel
        except ChannelException:
            further = connect(self._endpoint, self._options)
            try:
                return _open(further, begun).channel, further
            except BaseException:
                further.close()
                raise

    def _waiting(self, begun: Begun) -> Any:
        """The channel that was opened ahead, with this begun on it; None where there is none that will do."""
        from paramiko import ChannelException

        ahead, self._next = self._next, None
        try:
            found = ahead.result(2 * LINK_SECONDS) if ahead else None
        except FutureTimeout:
            raise TimeoutError("no channel was opened") from None
        except ChannelException:
            # It was asked for while another was there.
            return None
        if found is None or found.channel.closed:
            return None
        if found.begun is None:
            _begin(found.channel, begun)
        elif found.begun != begun:
            found.channel.close()
            return None
        return found.channel


def within(channel: Any, deadline: float) -> None:
    """Let the next wait of a channel end at the deadline; TimeoutError past it, however much comes without a pause."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    channel.settimeout(left)


def status(channel: Any, deadline: float) -> int:
    """The exit status of a command whose output has ended, -1 where the link was lost; TimeoutError where none is told.

    A host that lies, or a login shell that closes its output and lives on, may never tell one: the wait ends at the
    deadline, and LINK_SECONDS after the output at the latest. (Paramiko's own call for this has no limit.)
    """
    left = min(LINK_SECONDS, deadline - time.monotonic())
    if not channel.status_event.wait(max(0.0, left)):
        raise TimeoutError
    return int(channel.exit_status)


def _open(connection: Any, begun: Begun | None) -> _Opened:
    channel = connection.transport.open_session(timeout=LINK_SECONDS)
    channel.settimeout(LINK_SECONDS)
    channel.set_combine_stderr(True)
    if begun is not None:
        _begin(channel, begun)
    return _Opened(channel, begun)


def _begin(channel: Any, begun: Begun) -> None:
    """Run a command line on a channel, without waiting to hear that it has begun: what it reads is sent at once.

    A refusal closes the channel, which is seen when it is read. Paramiko has no call for this: the wait is left out.
    """
    channel._wait_for_event = lambda: None
    channel.exec_command(begun.line)
    del channel._wait_for_event
    try:
        channel.sendall(begun.first)
    except TimeoutError:
        # It opens channels, and takes nothing on them.
        raise
    except OSError:
        # A channel that was refused meanwhile is told from one that was not when it is read.
        return
