"""Run one command in the place of a release, for `fab run`. systemd starts this for each connection to run.sock.

It runs as the service's user, in the service's sandbox, with the connection as its standard input. A message is a
letter, a length (4 bytes, big-endian) and so many bytes. From the controller: `R` a request (JSON), `I` standard input,
`E` its end, `W` rows and columns of its terminal (2 bytes each), `S` a signal's number. To it: `1` standard output, `2`
standard error, `X` the exit status, `F` why there is none. The connection's end is the end of the command: SIGHUP,
five seconds later SIGKILL. A command can stop this server (SIGSTOP), as the same user: systemd kills one that is silent
(WatchdogSec). Python 3.9 and newer, standard library alone.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from typing import Any

HEAD = struct.Struct(">cI")
MOST = 1 << 20
"""Bytes that a message may have, and about as many that wait in each direction."""
PIECE = 1 << 15
PATIENCE = 5
"""Seconds between SIGHUP and SIGKILL, and those that a request may take."""
NAME = re.compile(r"[a-z][a-z0-9-]{0,19}")
RELEASE = re.compile(r"[0-9a-f]{12}")


class Refused(Exception):
    """There is nothing to run. Its text says why."""


def message(kind: bytes, data: bytes) -> bytes:
    """Return one message."""
    return HEAD.pack(kind, len(data)) + data


def take(held: bytearray) -> tuple[bytes, bytes] | None:
    """Take the first whole message out of a buffer; None if there is none yet. ValueError for one that is too long."""
    if len(held) < HEAD.size:
        return None
    kind, size = HEAD.unpack_from(held)
    if size > MOST:
        raise ValueError(f"a message of {size} bytes")
    if len(held) < HEAD.size + size:
        return None
    data = bytes(held[HEAD.size : HEAD.size + size])
    del held[: HEAD.size + size]
    return kind, data


def launcher(name: str, root: str, release: str, process: str) -> str:
    """Return the path of the script that runs a command beside a process of a release.

    The release is the one named, or else the one that has the traffic, or the committed one.
    """
    if release:
        if not RELEASE.fullmatch(release):
            raise Refused(f"{release[:50]!r} is no release")
        path = f"{root}/releases/{release}"
    else:
        try:
            slot = os.readlink(f"/run/{name}/live")
        except OSError:
            slot = ""
        link = f"{root}/slots/{slot}/release" if slot in ("blue", "green") else f"{root}/current/release"
        path = os.path.realpath(link)
        if os.path.dirname(path) != f"{root}/releases" or not os.path.isdir(path):
            raise Refused("no release is live or committed on this host")
    if not os.path.isdir(path):
        raise Refused(f"release {release} is not on this host")
    script = f"{path}/run/env.{process}"
    if not (NAME.fullmatch(process) and os.access(script, os.X_OK)):
        gone = f"has no process {process[:50]!r}, or was staged before `fab run` was there"
        raise Refused(f"release {os.path.basename(path)} {gone}: deploy anew")
    return script


def start(request: dict[str, Any], script: str) -> tuple[subprocess.Popen[bytes], int, dict[int, bytes]]:
    """Start the command; return the process, the descriptor of its input, and those of its outputs by letter."""
    words = [script, *request["argv"]]
    if not request["term"]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        into, out, errors = process.stdin, process.stdout, process.stderr
        assert into
        assert out
        assert errors
        return process, into.fileno(), {out.fileno(): b"1", errors.fileno(): b"2"}
    ours, theirs = os.openpty()
    resize(ours, request["rows"], request["columns"])
    process = subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "TERM": request["term"]}, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    return process, ours, {ours: b"1"}


def hung_up(connection: socket.socket) -> bool:
    """Return whether the other side has closed the connection, without reading what it has sent."""
    look = select.poll()
    look.register(connection, 0)
    return any(event & select.POLLHUP for _, event in look.poll(0))


def resize(terminal: int, rows: int, columns: int) -> None:
    """Set the size of a terminal."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class Watchdog:
    """systemd's watchdog of this unit; without one, `feed` does nothing."""

    def __init__(self) -> None:
        # A command must not inherit these variables and take them for its own.
        path, most = os.environ.pop("NOTIFY_SOCKET", ""), os.environ.pop("WATCHDOG_USEC", "")
        os.environ.pop("WATCHDOG_PID", None)
        self._path = f"\0{path[1:]}" if path.startswith("@") else path
        self._pause, self._next = int(most or 0) / 4e6, 0.0

    def feed(self) -> None:
        """Tell systemd that this server runs, if it is time."""
        if not (self._path and self._pause) or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._pause
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way, suppress(OSError):
            way.sendto(b"WATCHDOG=1", socket.MSG_DONTWAIT, self._path)


class Command:
    """A command that runs, and its connection. Data waits in either direction while the other side reads none."""

    def __init__(
        self,
        connection: socket.socket,
        held: bytearray,
        process: subprocess.Popen[bytes],
        into: int,
        outputs: dict[int, bytes],
        watchdog: Watchdog,
    ) -> None:
        self.connection, self.held, self.process, self.watchdog = connection, held, process, watchdog
        self.into: int | None = into
        self.outputs = outputs
        self.terminal = into if into in outputs else None
        self.coming, self.going = bytearray(), bytearray()
        self.closing = self.gone = False

    def serve(self) -> None:
        """Carry everything until the command has ended and its output is sent, or the connection is gone."""
        for descriptor in (self.connection.fileno(), self.into, *self.outputs):
            assert descriptor is not None
            os.set_blocking(descriptor, False)
        self.messages()
        while not self.gone:
            self.watchdog.feed()
            ended = self.process.poll() is not None
            if ended and not self.outputs:
                break
            # What it has started may keep its output open: take what is there.
            if not self.step(0 if ended and not self.going else 0.2) and ended and not self.going:
                break
        if self.gone:
            return
        status = self.process.wait()
        self.going += message(b"X", struct.pack(">i", 128 - status if status < 0 else status))
        self.outputs.clear()
        while self.going and not self.gone:
            self.watchdog.feed()
            self.step(0.2)

    def step(self, seconds: float) -> bool:
        """Wait for what can be done, and do it; return False if there was nothing."""
        reading = [] if len(self.going) > MOST else [*self.outputs]
        if len(self.coming) <= MOST:
            reading.append(self.connection.fileno())
        elif hung_up(self.connection):
            self.gone = True
        writing = [self.into] if self.coming and self.into is not None else []
        if self.going:
            writing.append(self.connection.fileno())
        readable, writable, _ = select.select(reading, writing, [], seconds)
        for descriptor in readable:
            if descriptor == self.connection.fileno():
                self.receive()
            else:
                self.collect(descriptor)
        for descriptor in writable:
            if descriptor == self.into:
                self.feed()
            else:
                self.send()
        return bool(readable or writable)

    def receive(self) -> None:
        """Read from the connection."""
        try:
            data = self.connection.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.gone = not data
        self.held += data
        self.messages()

    def messages(self) -> None:
        """Act on the messages that have arrived whole."""
        while (found := take(self.held)) is not None:
            kind, data = found
            if kind == b"I":
                self.coming += data
            elif kind == b"E":
                self.closing = True
            elif kind == b"W" and self.terminal is not None:
                resize(self.terminal, *struct.unpack(">HH", data))
            elif kind == b"S" and data in (b"1", b"2", b"15"):
                self.kill(int(data))
        if self.closing and not self.coming:
            self.close_input()

    def feed(self) -> None:
        """Write standard input of the command."""
        assert self.into is not None
        try:
            del self.coming[: os.write(self.into, self.coming[:PIECE])]
        except BlockingIOError:
            return
        except OSError:
            # The command reads no more.
            self.closing = True
            self.coming.clear()
        if self.closing and not self.coming:
            self.close_input()

    def close_input(self) -> None:
        """End standard input; that of a terminal stays, as its output does."""
        if self.terminal is None and self.into is not None:
            assert self.process.stdin
            self.process.stdin.close()
            self.into = None

    def collect(self, descriptor: int) -> None:
        """Read one of the outputs of the command."""
        try:
            data = os.read(descriptor, PIECE)
        except BlockingIOError:
            return
        except OSError:
            # Linux reports the end of a terminal so.
            data = b""
        if data:
            self.going += message(self.outputs[descriptor], data)
        else:
            del self.outputs[descriptor]

    def send(self) -> None:
        """Write to the connection."""
        try:
            del self.going[: self.connection.send(self.going[: 1 << 16])]
        except BlockingIOError:
            return
        except OSError:
            self.gone = True

    def kill(self, number: int) -> None:
        """Send a signal to the command and what it has started in its session's first group."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return

    def hang_up(self) -> None:
        """End the command as a closed terminal does. systemd kills what is left of this unit."""
        self.kill(signal.SIGHUP)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill(signal.SIGKILL)


def requested(connection: socket.socket, held: bytearray) -> dict[str, Any]:
    """Return the request, the first message of a connection."""
    end = time.monotonic() + PATIENCE
    while (found := take(held)) is None:
        connection.settimeout(max(0.01, end - time.monotonic()))
        data = connection.recv(1 << 16)
        if not data:
            raise ValueError("the connection ended before a request")
        held += data
    kind, data = found
    if kind != b"R":
        raise ValueError("the first message is no request")
    request: dict[str, Any] = json.loads(data)
    return request


def main(name: str, root: str) -> None:
    """Serve one connection."""
    connection, held, watchdog = socket.socket(fileno=os.dup(0)), bytearray(), Watchdog()
    # What this starts must not inherit the connection.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    request = requested(connection, held)
    try:
        process, into, outputs = start(request, launcher(name, root, request["release"], request["process"]))
    except (OSError, Refused) as error:
        connection.sendall(message(b"F", str(error).encode()))
        return
    command = Command(connection, held, process, into, outputs, watchdog)
    command.serve()
    if command.gone and process.poll() is None:
        command.hang_up()


if __name__ == "__main__":
    main(*sys.argv[1:])
