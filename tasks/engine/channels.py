"""The channels of one connection: a command each, begun with as few round trips as SSH lets it."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from tasks.engine.connection import LINK_SECONDS, connect
from tasks.engine.fanout import apart
from tasks.engine.ssh_config import Endpoint, Options


class Line:
    """A connection to a host and the channels on it: the next one is opened while the last is still used.

    A round trip less for each script. Where sshd allows one session a connection (MaxSessions), and the lock of the run
    has it, every further channel has a connection of its own.
    """

    def __init__(self, endpoint: Endpoint, options: Options) -> None:
        self._endpoint, self._options = endpoint, options
        self._connection = connect(endpoint, options)
        self._next: Future[Any] | None = None

    @property
    def active(self) -> bool:
        """Whether the connection is up, as far as we know."""
        return bool(self._connection.transport.is_active())

    def close(self) -> None:
        """End the connection, and with it all its channels."""
        self._connection.close()

    def session(self) -> tuple[Any, Any]:
        """A channel for one command, and what to close after it."""
        from paramiko import ChannelException

        opened, self._next = self._next, None
        try:
            try:
                channel = opened.result() if opened else self._open()
            except ChannelException:
                # It was asked for while another was there.
                channel = self._open()
            self._next = apart(self._open)
            return channel, channel
        except ChannelException:
            further = connect(self._endpoint, self._options)
            try:
                return further.transport.open_session(timeout=LINK_SECONDS), further
            except BaseException:
                further.close()
                raise

    def _open(self) -> Any:
        return self._connection.transport.open_session(timeout=LINK_SECONDS)


def begin(channel: Any, line: str) -> None:
    """Run a command line on a channel, without waiting to hear that it has begun: what it reads is sent at once.

    A refusal closes the channel, which is seen when it is read. Paramiko has no call for this: the wait is left out.
    """
    channel._wait_for_event = lambda: None
    channel.exec_command(line)
    del channel._wait_for_event
