"""Limit the memory and time that a peer can use. Paramiko sets no limit, and a peer sends before its key is checked.

A peer that exceeds a limit ends its own connection, by a Breach.
"""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any

from paramiko.channel import Channel
from paramiko.common import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
)
from paramiko.packet import Packetizer
from paramiko.ssh_exception import SSHException
from paramiko.transport import Transport

PACKET = 256 * 1024
"""Bytes of a packet at most, on the wire and inflated: OpenSSH's own limit. We ask for packets of 32 kB."""
EARLY = 35_000
"""Bytes of a packet before keys have been exchanged: the size that RFC 4253 demands of every implementation. Paramiko
takes seconds to read a number of 256 kB, and the host key is not checked yet."""
GREETING = 64 * 1024
"""Bytes that a server may send before SSH begins: lines of text, then its version."""
KEY_EXCHANGES = 60
"""Key exchanges that a server may begin in a minute: each takes up to 50 ms, in which all other hosts wait. OpenSSH
begins one per GB, or as its RekeyLimit says."""
EXTENSIONS = 1024
"""Extensions that a server may announce: OpenSSH's own limit. Paramiko counts up to any number that a packet names."""
_OF_A_CHANNEL = {
    MSG_CHANNEL_CLOSE, MSG_CHANNEL_DATA, MSG_CHANNEL_EOF, MSG_CHANNEL_EXTENDED_DATA, MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
}  # fmt: skip
"""The messages that name the peer's channel in the four bytes after their kind."""


class Breach(SSHException):  # type: ignore[misc]  # paramiko is untyped
    """The peer sent more than it may, or a packet that cannot be read."""


class Packets(Packetizer):  # type: ignore[misc]  # paramiko is untyped
    """Read packets of a limited length. Paramiko's own class reads as many bytes as the packet claims to have."""

    _greeting = 0

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """Return the next n bytes: the rest of a packet, once its length is known."""
        limit = PACKET if self._initial_kex_done else EARLY
        if n > limit:
            raise Breach(f"a packet of {n} bytes was announced, and {limit} are allowed")
        data: bytes = super().read_all(n, check_rekey)
        return data

    def _read_timeout(self, timeout: float) -> bytes:
        """Return some bytes of the greeting."""
        data: bytes = super()._read_timeout(timeout)
        self._greeting += len(data)
        if self._greeting > GREETING:
            raise Breach(f"more than {GREETING} bytes came before SSH began")
        return data


class Inflating:
    """Inflate one packet after the other. Paramiko's own decompressor makes 2 GB of a packet of 2 MB."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()

    def __call__(self, data: bytes) -> bytes:
        """Return the next packet."""
        packet = self._stream.decompress(data, PACKET + 1)
        if len(packet) > PACKET:
            raise Breach(f"a packet of {len(data)} bytes inflates to more than the {PACKET} that are allowed")
        return packet


def _within_window(take: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """Return this handler of a channel's data; it raises Breach where more waits to be read than the window allows."""

    def taken(channel: Any, message: Any) -> None:
        take(channel, message)
        # The window grows only by what was read, so a peer that keeps to it never exceeds this.
        if len(channel.in_buffer) + len(channel.in_stderr_buffer) > channel.in_window_size:
            raise Breach(f"more than the window of a channel was sent, {channel.in_window_size} bytes")

    return taken


class Limited(Transport):  # type: ignore[misc]  # paramiko is untyped
    """Paramiko's transport within these limits, that sends nothing on a channel after its close.

    breach: why we ended the connection, None if we did not.
    """

    breach: Breach | None = None
    # In a group exchange the server chooses the numbers: numbers of 8192 bits take us up to 10 s, in which all
    # other hosts wait. Every OpenSSH since 2014 has another way.
    _preferred_kex = tuple(name for name in Transport._preferred_kex if "group-exchange" not in name)
    _compression_info = {  # noqa: RUF012 - as paramiko has it
        name: (compressor, decompressor and Inflating)
        for name, (compressor, decompressor) in Transport._compression_info.items()
    }
    _channel_handler_table = {  # noqa: RUF012 - as paramiko has it
        **Transport._channel_handler_table,
        MSG_CHANNEL_DATA: _within_window(Channel._feed),
        MSG_CHANNEL_EXTENDED_DATA: _within_window(Channel._feed_extended),
    }

    def __init__(self, line: Any, *arguments: Any, **named: Any) -> None:
        super().__init__(line, *arguments, packetizer_class=Packets, **named)
        self._exchanges: deque[float] = deque(maxlen=KEY_EXCHANGES)
        self._closed_channels: set[int] = set()

    @property
    def saved_exception(self) -> Exception | None:
        """The exception that ended the connection, until get_exception() takes it."""
        return self._ended_by

    @saved_exception.setter
    def saved_exception(self, error: Exception | None) -> None:
        if error is not None and not isinstance(error, (SSHException, EOFError, OSError)):
            error = Breach(f"a packet came that cannot be read ({type(error).__name__}: {str(error)[:100]})")
        self._ended_by: Exception | None = error
        if isinstance(error, Breach):
            self.breach = error

    def _negotiate_keys(self, m: Any) -> None:
        if self.local_kex_init is None:
            # The peer begins.
            now = time.monotonic()
            if len(self._exchanges) == KEY_EXCHANGES and now - self._exchanges[0] < 60:
                raise Breach(f"more than {KEY_EXCHANGES} key exchanges were begun in a minute")
            self._exchanges.append(now)
        super()._negotiate_keys(m)

    def _parse_ext_info(self, msg: Any) -> None:
        count = msg.get_int()
        if count > EXTENSIONS:
            raise Breach(f"{count} extensions were announced, and {EXTENSIONS} are allowed")
        msg.rewind()
        super()._parse_ext_info(msg)

    def _parse_debug(self, m: Any) -> None:
        """Ignore the text. Paramiko takes seconds to format a long one for its log."""

    def _parse_channel_open_success(self, m: Any) -> None:
        m.get_int()
        # A server gives the number of a closed channel to the next one.
        self._closed_channels.discard(m.get_int())
        m.rewind()
        super()._parse_channel_open_success(m)

    def _send_message(self, data: Any) -> None:
        """Send a message, unless its channel is closed.

        Paramiko builds a message under the channel's lock and sends it without. If the host's close comes between the
        two, our own close is sent first. The message is then for a channel that sshd no longer has, and sshd would end
        the whole connection.
        Of messages on channels one is sent at a time (`clear_to_send_lock`), so the order here is the order sent.
        """
        begin = bytes(data.packet.getbuffer()[:5])
        if begin[0] in _OF_A_CHANNEL:
            channel = int.from_bytes(begin[1:], "big")
            if channel in self._closed_channels:
                return
            if begin[0] == MSG_CHANNEL_CLOSE:
                self._closed_channels.add(channel)
        super()._send_message(data)
