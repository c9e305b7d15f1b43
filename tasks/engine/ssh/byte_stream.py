"""The way to a port: a TCP connection, a channel of a jump host or a ProxyCommand. What the other end says is kept."""

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
"""How long a peer may keep silent where it has to answer."""
STUCK_SECONDS = 120
"""How long a peer may take nothing. TCP gives up sooner; a ProxyCommand and a channel of a jump host never do."""
_HEARD, _COMPLAINED = 1024, 4096
_UNSENT = 256 * 1024
"""Bytes at most that wait in the kernel for their turn on the link."""


class Wire:
    """A stream of bytes that remembers how the other end began: who refuses us often says why before it hangs up.

    Paramiko takes it for a socket. prompt: acknowledge at once; ended: whether the other end has hung up;
    transport: who speaks SSH over it.
    """

    def __init__(self, stream: Any, errors: IO[bytes] | None = None, *, prompt: bool = False) -> None:
        self._stream, self._prompt = stream, prompt
        self._complained = bytearray()
        self._listener: threading.Thread | None = None
        if errors:
            self._listener = threading.Thread(target=_keep_last, args=(errors, self._complained), daemon=True)
            self._listener.start()
        self._heard = b""
        self._closed = False
        self._stuck_since = 0.0
        self._after: list[Callable[[], object]] = []
        self.ended = False
        self.transport: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def recv(self, size: int) -> bytes:
        """The next bytes."""
        try:
            data: bytes = self._stream.recv(size)
            if self._prompt:
                # sshd leaves Nagle's algorithm on: each small packet waits for word of the one before, and we would
                # wait up to 40 ms with it. The kernel forgets this at every turn.
                self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except ConnectionError:
            self.ended = True
            raise
        self.ended = not data
        if len(self._heard) < _HEARD:
            self._heard += data
        return data

    def send(self, data: bytes) -> int:
        """Hand on some of these bytes; ConnectionError where the other end has taken none for too long."""
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
        """End it, and what was there for it alone."""
        self._closed = True
        # While a thread still reads from it, a close alone does not reach the other end.
        # A channel of a jump host that is gone cannot say goodbye.
        for end in (partial(self._stream.shutdown, socket.SHUT_RDWR), self._stream.close):
            with suppress(OSError, EOFError):
                end()
        after, self._after = self._after, []
        for further in after:
            further()

    def then(self, end: Callable[[], object]) -> None:
        """Something that ends with it."""
        self._after.append(end)
        if self._closed:
            self.close()

    @property
    def speaks(self) -> bool:
        """Whether the other end has named itself as an SSH server does."""
        return any(line.startswith(b"SSH-") for line in self._heard.splitlines())

    @property
    def heard(self) -> str:
        """What it said before that: nothing, as a rule."""
        lines = self._heard.decode("utf-8", "replace").splitlines()
        said = takewhile(lambda line: not line.startswith("SSH-"), lines[:3])
        return " ".join(line.strip() for line in said).strip()[:200]

    @property
    def complaint(self) -> tuple[str, ...]:
        """The last lines that a ProxyCommand wrote to its standard error."""
        if self._listener:
            # Of a program that has ended this is all. What it left behind may hold it open.
            self._listener.join(1)
        return tuple(self._complained.decode("utf-8", "replace").splitlines()[-3:])


def _keep_last(errors: IO[bytes], kept: bytearray) -> None:
    """Read it all, so that nobody waits for it, and keep the end: a host may be behind what a ProxyCommand says."""
    with errors:
        while data := os.read(errors.fileno(), 65536):
            kept += data
            del kept[:-_COMPLAINED]


def tcp(endpoint: Endpoint, options: Options) -> Wire:
    """A socket without Nagle's delay, which costs 40 ms a channel, and with an end for a peer that is gone."""
    sock = socket.create_connection((endpoint.hostname, endpoint.port), timeout=options.connect_timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        # Behind an upload on a slow link the word that keeps the lock of the run would wait for megabytes.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * LINK_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    return Wire(sock, prompt=hasattr(socket, "TCP_QUICKACK"))


def proxied(command: str) -> Wire:
    """The two ends of a program, run by the user's shell as ssh would.

    In a session of its own: Ctrl-C is for us, who let a host under way finish, and a password cannot be asked for.
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
    line.then(end)
    return line
