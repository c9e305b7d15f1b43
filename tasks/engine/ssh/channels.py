"""Open channels over one connection, each with one command, in as few round trips as SSH allows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from tasks.engine.parallel import run_in_thread
from tasks.engine.ssh.byte_stream import LINK_SECONDS
from tasks.engine.ssh.connection import connect
from tasks.engine.ssh.session import blocks
from tasks.engine.ssh.ssh_config import Endpoint, Options

PATIENCE = 120
"""Seconds in which a host must take all that a command begins with."""
_AHEAD_SECONDS = 2 * LINK_SECONDS + PATIENCE
"""Seconds to open a channel ahead, and to send the program on it over a slow link."""


class Begun(NamedTuple):
    """The command line that a channel runs, and the first bytes of its input."""

    line: str
    first: bytes = b""


class _Opened(NamedTuple):
    """An open channel, and what runs on it; None if nothing has begun."""

    channel: Any
    begun: Begun | None


class SharedConnection:
    """A connection to a host with its channels. It opens the next channel while the last one is still in use.

    That saves a round trip for each step, and another where the next shell is started ahead too: sshd reads no input
    for a command before the command has started. Where a command stays for the next step, it keeps its channel. If sshd
    allows one session a connection (MaxSessions) and the run lock uses it, each further channel gets a new connection.
    """

    def __init__(self, endpoint: Endpoint, options: Options) -> None:
        self._endpoint, self._options = endpoint, options
        self._connection = connect(endpoint, options)
        self._next: Future[_Opened] | None = None
        self._kept: _Opened | None = None

    @property
    def active(self) -> bool:
        """True if the connection is up, as far as paramiko knows."""
        return bool(self._connection.transport.is_active())

    def close(self) -> None:
        """Close the connection with all its channels."""
        self._connection.close()

    def open_channel(self, begun: Begun, ahead: Begun | None = None, *, stays: bool = False) -> tuple[Any, Any]:
        """Return a channel on which this command has begun, and the object to close after use.

        Output and errors come in one stream. ahead: what the caller wants to begin after this, if it knows.
        stays: the caller means to `keep` the channel, so none is opened ahead.
        """
        from paramiko import ChannelException

        try:
            channel = self._take_ahead(begun) or _open(self._connection, begun).channel
            if not stays:
                self.begin_ahead(ahead)
            return channel, channel
        except ChannelException:
            further = connect(self._endpoint, self._options)
            try:
                return _open(further, begun).channel, further
            except BaseException:
                further.close()
                raise

    def begin_ahead(self, begun: Begun | None) -> None:
        """Open the next channel, and start this command there, unless one was opened ahead already."""
        if self._next is None:
            self._next = run_in_thread(partial(_open, self._connection, begun))

    def keep(self, channel: Any, begun: Begun) -> None:
        """Keep a channel, unless it has a connection of its own: its command waits for the next step."""
        if channel.get_transport() is self._connection.transport:
            self._kept = _Opened(channel, begun)

    def keeps(self, channel: Any) -> bool:
        """Return whether this is the channel that is kept."""
        return self._kept is not None and self._kept.channel is channel

    def _take_ahead(self, begun: Begun) -> Any:
        """Return the channel that was kept or opened ahead, with this command begun; None if none fits."""
        from paramiko import ChannelException

        kept, self._kept = self._kept, None
        ahead = None
        if kept is None:
            ahead, self._next = self._next, None
        try:
            opened = kept or (ahead.result(_AHEAD_SECONDS) if ahead else None)
        except FutureTimeout:
            raise TimeoutError("no channel was opened") from None
        except ChannelException:
            # sshd refused the channel (MaxSessions) because another channel was open then.
            return None
        if opened is None or opened.channel.closed:
            return None
        if opened.begun is None:
            _begin(opened.channel, begun)
        elif opened.begun != begun:
            opened.channel.close()
            return None
        return opened.channel


def within(channel: Any, deadline: float) -> None:
    """Let the channel's next read end at the deadline; TimeoutError once it has passed, even while data still comes."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    channel.settimeout(left)


def status(channel: Any, deadline: float) -> int:
    """Return the exit status of a command whose output has ended, -1 if the link was lost; TimeoutError if none comes.

    A hostile host, or a login shell that closes its output and lives on, may never send one: the wait ends at the
    deadline, and LINK_SECONDS after the output at the latest. (Paramiko's own call for this has no limit.)
    """
    left = min(LINK_SECONDS, deadline - time.monotonic())
    if not channel.status_event.wait(max(0.0, left)):
        raise TimeoutError
    return int(channel.exit_status)


def send(channel: Any, pieces: Iterable[bytes], seconds: float = PATIENCE) -> None:
    """Write all pieces to a channel in blocks: paramiko's `sendall` copies the remaining bytes for each packet.

    TimeoutError if the host takes longer than so many seconds.
    """
    with closed_after(channel, seconds):
        for block in blocks(pieces):
            channel.sendall(block)


@contextmanager
def closed_after(channel: Any, seconds: float) -> Iterator[None]:
    """Close the channel, and raise TimeoutError, if the block writes to it for longer than so many seconds.

    The channel's own limit is per packet; a host that takes one byte at a time would stretch it to hours.
    """
    late = threading.Event()

    def close() -> None:
        late.set()
        channel.close()

    limit = threading.Timer(seconds, close)
    limit.daemon = True
    limit.start()
    try:
        yield
    except OSError as error:
        if late.is_set():
            raise TimeoutError(f"the host did not take what was sent within {seconds:g} s") from error
        raise
    finally:
        limit.cancel()


def _open(connection: Any, begun: Begun | None) -> _Opened:
    channel = connection.transport.open_session(timeout=LINK_SECONDS)
    channel.settimeout(LINK_SECONDS)
    channel.set_combine_stderr(True)
    if begun is not None:
        _begin(channel, begun)
    return _Opened(channel, begun)


def _begin(channel: Any, begun: Begun) -> None:
    """Run a command line on a channel and send its first input, without waiting for sshd to confirm the start.

    A refusal closes the channel; the reader sees that. Paramiko has no call for this, so we disable its wait.
    """
    channel._wait_for_event = lambda: None
    channel.exec_command(begun.line)
    del channel._wait_for_event
    try:
        send(channel, [begun.first], PATIENCE)
    except TimeoutError:
        # The host opens channels, but accepts no data on them.
        raise
    except OSError:
        # sshd may have refused the channel meanwhile; the reader finds out.
        return
