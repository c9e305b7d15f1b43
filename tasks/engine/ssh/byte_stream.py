"""Open a byte stream to a port: a TCP connection, a jump host's channel or a ProxyCommand. Keep how the peer began."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import takewhile
from typing import IO, Any

from tasks.engine.ssh.ssh_config import Endpoint, Options

LINK_SECONDS = 15
"""Seconds that a peer may take to answer."""
STUCK_SECONDS = 120
"""Seconds that a peer may accept no data. TCP gives up sooner; a ProxyCommand and a jump host's channel never do."""
_GREETING, _STDERR = 1024, 4096
_UNSENT = 256 * 1024
"""Unsent bytes that the kernel holds at most."""


class Wire:
    """A byte stream that keeps the peer's first bytes: a server that refuses us often says why before it hangs up.

    Paramiko uses it as a socket. prompt: acknowledge each packet at once
    ended: whether the peer has hung up; transport: the SSH transport over it
    """

    def __init__(self, stream: Any, errors: IO[bytes] | None = None, *, prompt: bool = False) -> None:
        self._stream, self._prompt = stream, prompt
        self._stderr = bytearray()
        self._listener: threading.Thread | None = None
        if errors:
            self._listener = threading.Thread(target=_keep_last, args=(errors, self._stderr), daemon=True)
            self._listener.start()
        self._first = b""
        self._closed = False
        self._stuck_since = 0.0
        self._at_close: list[Callable[[], object]] = []
        self.ended = False
        self.transport: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def recv(self, size: int) -> bytes:
        """Return the next bytes."""
        try:
            data: bytes = self._stream.recv(size)
            if self._prompt:
                # sshd leaves Nagle's algorithm on: a small packet waits until we acknowledge the one before, which
                # takes up to 40 ms without this option. The kernel resets it after each use.
                self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except ConnectionError:
            self.ended = True
            raise
        self.ended = not data
        if len(self._first) < _GREETING:
            self._first += data
        return data

    def send(self, data: bytes) -> int:
        """Send some of these bytes, return how many; ConnectionError if the peer accepted none for too long."""
        try:
            sent: int = self._stream.send(data)
        except TimeoutError:
            self._stuck_since = self._stuck_since or time.monotonic()
            if time.monotonic() - self._stuck_since > STUCK_SECONDS:
                raise ConnectionError("the other end takes nothing") from None
            raise
        self._stuck_since = 0.0
        return sent

    def close(self) -> None:
        """Close the stream and everything added by `on_close`."""
        self._closed = True
        # While a thread reads from the socket, close() alone does not reach the peer. Errors: the channel of a lost
        # jump host can send nothing.
        for end in (partial(self._stream.shutdown, socket.SHUT_RDWR), self._stream.close):
            with suppress(OSError, EOFError):
                end()
        ends, self._at_close = self._at_close, []
        for end in ends:
            end()

    def on_close(self, end: Callable[[], object]) -> None:
        """Call `end` when this stream is closed; at once if it is closed already."""
        self._at_close.append(end)
        if self._closed:
            self.close()

    @property
    def is_ssh(self) -> bool:
        """True if the peer has sent its SSH version."""
        return any(line.startswith(b"SSH-") for line in self._first.splitlines())

    @property
    def greeting(self) -> str:
        """The text that the peer sent before its SSH version, usually empty."""
        lines = self._first.decode("utf-8", "replace").splitlines()
        before = takewhile(lambda line: not line.startswith("SSH-"), lines[:3])
        return " ".join(line.strip() for line in before).strip()[:200]

    @property
    def stderr(self) -> tuple[str, ...]:
        """The last lines that a ProxyCommand wrote to its standard error."""
        if self._listener:
            # One second only: a child of an ended program may keep its standard error open.
            self._listener.join(1)
        return tuple(self._stderr.decode("utf-8", "replace").splitlines()[-3:])


def _keep_last(errors: IO[bytes], kept: bytearray) -> None:
    """Read everything, so that the program never blocks, and keep the end: a host may control how much comes."""
    with errors:
        while data := os.read(errors.fileno(), 65536):
            kept += data
            del kept[:-_STDERR]


def open_tcp(endpoint: Endpoint, options: Options) -> Wire:
    """Connect without Nagle's delay, which costs 40 ms a channel, and with keepalives that detect a dead peer."""
    sock = socket.create_connection((endpoint.hostname, endpoint.port), timeout=options.connect_timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        # Without this, on a slow link, the message that keeps the run lock would wait behind megabytes of an upload.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * LINK_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    return Wire(sock, prompt=hasattr(socket, "TCP_QUICKACK"))


def run_proxy(command: str) -> Wire:
    """Run a ProxyCommand by the user's shell, as ssh does; return the stream of its input and output.

    It has its own session: Ctrl-C reaches only us, since we let a host finish, and it cannot ask for a password.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [os.environ.get("SHELL") or "/bin/sh", "-c", f"exec {command}"],
            stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def end() -> None:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)

    line = Wire(ours, process.stderr)
    line.on_close(end)
    return line
