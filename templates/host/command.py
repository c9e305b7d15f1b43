"""Run one command in the place of a release, for `fab run`: pass the controller's messages to run.sock and back.

The server there (`templates/run_server.py`) runs as the service's user, so what it says is as untrusted as the service.
"""

from __future__ import annotations

import base64
import json
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from . import run_units, units
from .payload import Payload
from .run import Interrupted, Refused, Run

_REQUEST = ("argv", "process", "release", "term", "rows", "columns")
_HEAD = struct.Struct(">cI")
_MOST = 1 << 16
"""Bytes that a message of the server may have."""
_STATUS = struct.Struct(">i")
_SHOWN = 200
_LAST = (b"X", b"F")
"""Messages that end a command."""
_WORDS = {b"1": "stdout", b"2": "stderr", b"X": "exit", b"F": "unstarted"}


def perform(run: Run) -> None:
    """Run the step. `steps.command` of the controller documents its keys, run_server.py the messages."""
    name = run.step["name"]
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(f"/run/{name}/run.sock")
        except OSError as error:
            unit = f"{name}-run.socket"
            raise Refused(
                f"no command can be run: {error.strerror}; see systemctl status {unit}, and fab setup"
            ) from error
        request = json.dumps({key: run.step[key] for key in _REQUEST}).encode()
        # If systemd closed the connection, `_carry` finds its end.
        with suppress(ConnectionError):
            server.sendall(_HEAD.pack(b"R", len(request)) + request)
        run.report("begun")
        if not _carry(run, server):
            raise Refused(_no_end(name))


def _no_end(name: str) -> str:
    """Return why a command ended without a status."""
    socket_unit = units.show(f"{name}-run.socket", "NConnections", "MaxConnections")
    most = socket_unit.get("MaxConnections")
    if most and socket_unit.get("NConnections") == most:
        ways = "end one (on this host, as root: systemctl stop UNIT), or all, with the service: fab stop, fab start"
        return f"no more than {most} commands may run at once, and so many do: {run_units.named(name)}; {ways}"
    return f"the command's unit ended without its status: see journalctl -u '{name}-run@*' on this host"


def _carry(run: Run, server: socket.socket) -> bool:
    """Carry messages both ways until the server closes; return whether it has said how the command ended."""
    payload, held, ended = Payload(run), bytearray(), False
    source, connection = run.payload.fileno(), server.fileno()
    going = b""
    server.setblocking(False)
    while True:
        run.heed()
        # A command that reads nothing must still be heard, so never wait for the server to take what is sent.
        reading = [connection] if going else [source, connection]
        # What came together with the step waits in `payload`, not in the descriptor.
        waiting = payload.waiting and not going
        readable, writable, _ = select.select(reading, [connection] if going else [], [], 0 if waiting else 0.5)
        if waiting or source in readable:
            going = payload.read(_MOST)
            if not going:
                # The controller is gone: closing the connection ends the command.
                raise Interrupted
        if going and _closed(source):
            # The controller is gone, and the command has not read all of its input.
            raise Interrupted
        if writable:
            going = _sent(server, going)
        if connection in readable:
            data = _received(server)
            if not data:
                return ended
            held += data
            ended = _report(run, held) or ended


def _closed(descriptor: int) -> bool:
    """Return whether the other side has closed a pipe or a socket, which may have data left to read."""
    look = select.poll()
    look.register(descriptor, 0)
    return any(event & select.POLLHUP for _, event in look.poll(0))


def _sent(server: socket.socket, data: bytes) -> bytes:
    """Send some of the data; return the rest. A server that is gone may have said why: what it says is still read."""
    try:
        return data[server.send(data) :]
    except ConnectionError:
        return b""


def _received(server: socket.socket) -> bytes:
    """Receive some data; none at the end of the connection."""
    try:
        return server.recv(_MOST)
    except ConnectionError:
        return b""


def _report(run: Run, held: bytearray) -> bool:
    """Report the messages that have arrived whole; return whether the last one ends the command."""
    messages = list(_messages(held))
    if messages:
        run.reports((_WORDS[kind], base64.b64encode(data).decode()) for kind, data in messages)
    return any(kind in _LAST for kind, _ in messages)


def _messages(held: bytearray) -> Iterator[tuple[bytes, bytes]]:
    """Take the messages that have arrived whole out of a buffer."""
    while len(held) >= _HEAD.size:
        kind, size = _HEAD.unpack_from(held)
        if size > _MOST or kind not in _WORDS:
            raise Refused("the command's unit sent a message that run-server never sends")
        if len(held) < _HEAD.size + size:
            break
        data = bytes(held[_HEAD.size : _HEAD.size + size])
        del held[: _HEAD.size + size]
        yield kind, data


class Result(NamedTuple):
    """The end of a command. status: None if it has none; text: the end of its output, or why it has no status."""

    status: int | None
    text: str


def result(name: str, argv: Sequence[str], process: str, release: str, seconds: float) -> Result:
    """Run a command without input beside a process of a release, for so many seconds at most; return its end."""
    values = {"argv": [*argv], "process": process, "release": release, "term": "", "rows": 0, "columns": 0}
    request, end = json.dumps(values).encode(), time.monotonic() + seconds
    held, output = bytearray(), b""
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.settimeout(seconds)
            _connect_for_health(server, name)
            server.sendall(_HEAD.pack(b"R", len(request)) + request + _HEAD.pack(b"E", 0))
            # A command that prints for ever must not keep us.
            while (left := end - time.monotonic()) > 0:
                server.settimeout(left)
                data = server.recv(_MOST)
                held += data
                for kind, text in _messages(held):
                    if kind == b"X" and len(text) == _STATUS.size:
                        return Result(_STATUS.unpack(text)[0], _last_line(output))
                    if kind in _LAST:
                        return Result(None, _last_line(text))
                    output = (output + text)[-_MOST:]
                if not data:
                    return Result(None, "its unit ended without a status")
    except (OSError, Refused) as error:
        if time.monotonic() < end:
            return Result(None, str(error))
    return Result(None, f"no end within {seconds:g} s")


def _connect_for_health(server: socket.socket, name: str) -> None:
    try:
        server.connect(f"/run/{name}/health.sock")
    except FileNotFoundError:
        # An older setup made one socket for all commands.
        server.connect(f"/run/{name}/run.sock")


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:_SHOWN] if lines else ""
