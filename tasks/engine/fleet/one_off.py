"""Run one command in the place of the live release: output as it comes, input and terminal passed on."""

from __future__ import annotations

import base64
import binascii
import os
import signal
import struct
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Any

from tasks.engine import misread, quote
from tasks.engine.errors import LoopError
from tasks.engine.fleet import step_errors
from tasks.engine.fleet.each import on_each
from tasks.engine.fleet.member import Member
from tasks.engine.host import host_program, steps
from tasks.engine.host.protocol import Output, Report, Transcript
from tasks.engine.host.steps import Command, HostStep, Terminal
from tasks.engine.parallel import Stop
from tasks.engine.report import host_names, output
from tasks.engine.room import taken
from tasks.engine.ssh.channels import send
from tasks.engine.ssh.session import LinkLost
from tasks.engine.ssh.ssh_session import SshSession

FAILED = 125
"""Exit status for a failure of our own, as that of env(1) and `docker run`; any other is the command's."""

_BEGIN = 60
_PIECE = 32 * 1024
_LOOK = 0.5
"""Seconds between two looks at the request to stop."""
_GRACE = 60
"""Seconds that a command may take to end after its interrupt."""
_ENDS = ("exit", "unstarted", "refused", "failed", host_program.LACKS)
"""Reports after which nothing follows that matters."""

Show = Callable[[str, bytes], None]


@dataclass
class Request:
    """One command. terminal: give it one of this kind and size.

    show: called with `stdout` or `stderr` and bytes; feeds: pass on our standard input and signals
    source: without `feeds`, a file that is its input, open for reading
    silence: seconds after which a command that neither says nor reads anything is given up; None for no limit
    seconds: seconds after which a command is given up, whatever it says; None for no limit
    stop: without `feeds`, a request to interrupt the command
    """

    wanted: Command
    terminal: Terminal | None
    show: Show
    feeds: bool = True
    source: int | None = None
    silence: float | None = None
    seconds: float | None = None
    stop: Stop | None = None


def run(member: Member, request: Request) -> int:
    """Run the command on this host; return its exit status. Raises LoopError if there is none."""
    with misread.as_error_of(member.host.name):
        return _run(member, request)


def _run(member: Member, request: Request) -> int:
    member.act_for_service()
    step = steps.command(member.service, request.wanted, request.terminal)
    session = member.connect()
    transcript = session.with_program(step, lambda placed: _attempt(member, session, placed, request))
    status = transcript.last("exit")
    if status is not None:
        return _status(status)
    if (why := transcript.last("unstarted")) is not None:
        text = _bytes(why).decode("utf-8", "replace")[:300]
        raise LoopError(f"the command was not started: {text}", where=member.host.name)
    if not transcript.reports:
        raise step_errors.unstarted(transcript, member.host.name, member.login)
    raise step_errors.explain(step, transcript, member.host.name, member.login)


def _attempt(member: Member, session: SshSession, step: HostStep, request: Request) -> Transcript:
    """Send the step, and pass everything on until the host says how the command ended."""
    transcript = Transcript()
    with session.begun(step, member.run, _BEGIN) as (channel, reader, rest):
        send(channel, rest, _BEGIN)
        sender = _Sender(channel)
        watch = _Watch(channel, sender, request, member.host.name)
        with _passing(sender, request) as begin:
            while not any(word in transcript.reports for word in (*_ENDS, host_program.MISSING)):
                data = watch.received()
                if not data:
                    break
                for item in reader.feed(data):
                    _take(item, transcript, request.show)
                if "begun" in transcript.reports:
                    watch.begin()
                    begin()
    if "begun" in transcript.reports and not any(word in transcript.reports for word in _ENDS):
        raise LinkLost(
            "the connection was lost while the command ran; the host ends it", where=member.host.name,
            next=f"see what is left of it: fab logs -H {member.host.name} -n 20",
        )  # fmt: skip
    return transcript


def _take(item: Report | Output, transcript: Transcript, show: Show) -> None:
    """Show a piece of output; keep any other report, of which there are few."""
    if isinstance(item, Report) and item.word in ("stdout", "stderr"):
        show(item.word, _bytes(item.text))
    else:
        transcript.add(item)


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"a report without base64: {error}") from None


def _status(text: str) -> int:
    data = _bytes(text)
    if len(data) != 4:
        raise ValueError(f"an exit status of {len(data)} bytes")
    status: int = struct.unpack(">i", data)[0]
    return status if 0 <= status <= 255 else 255


class _Sender:
    """Sends whole messages: standard input and signals come from different threads."""

    def __init__(self, channel: Any) -> None:
        self._channel, self._lock = channel, threading.Lock()
        self.moved = time.monotonic()

    def send(self, kind: bytes, data: bytes) -> None:
        """Send one message; a lost channel is for the reader to find."""
        view = memoryview(struct.pack(">cI", kind, len(data)) + data)
        with self._lock, suppress(Exception):
            while view:
                # The channel has one timeout, that of the reader: a send that reaches it goes on.
                with suppress(TimeoutError):
                    view = view[self._channel.send(view) :]
                    self.moved = time.monotonic()

    def pass_input(self, source: int) -> None:
        """Send an input to its end."""
        while data := os.read(source, _PIECE):
            self.send(b"I", data)
        self.send(b"E", b"")


class _Watch:
    """Waits for what the host says, but not without end: until a limit of silence, or a request to stop."""

    def __init__(self, channel: Any, sender: _Sender, request: Request, host: str) -> None:
        self._channel, self._sender, self._request, self._host = channel, sender, request, host
        self._begun, self._interrupted, self._heard = 0.0, 0.0, 0.0
        self._until = time.monotonic() + _BEGIN

    def begin(self) -> None:
        """Apply the limits of the request from now on: the command has begun."""
        if not self._begun:
            request = self._request
            limited = any(limit is not None for limit in (request.silence, request.seconds, request.stop))
            self._channel.settimeout(_LOOK if limited else None)
            self._begun = time.monotonic()

    def received(self) -> bytes:
        """Receive some data, none at the end. Raises LoopError."""
        self._heard = time.monotonic()
        while True:
            self._heed()
            if not self._begun:
                self._await_begin()
            with suppress(TimeoutError):
                data: bytes = self._channel.recv(65536)
                return data

    def _await_begin(self) -> None:
        """Limit the next wait for data to a moment; LinkLost if the host begins too late, whatever it prints."""
        left = self._until - time.monotonic()
        if left <= 0:
            why = f"the host did not begin the command within {_BEGIN} s"
            raise LinkLost(why, where=self._host, next=f"look at it by hand: fab shell -H {self._host}")
        self._channel.settimeout(min(left, _LOOK))

    def _heed(self) -> None:
        now, silence, seconds = time.monotonic(), self._request.silence, self._request.seconds
        if not self._begun and self._request.stop:
            raise LoopError("it was stopped before the host began the command", where=self._host, next="run it again")
        if self._request.stop and not self._interrupted:
            self._interrupted = now
            # From another thread: one that sends a large input may hold the lock.
            number = str(int(signal.SIGINT)).encode()
            threading.Thread(target=self._sender.send, args=(b"S", number), daemon=True).start()
        if self._interrupted and now - self._interrupted > _GRACE:
            why = f"it was stopped, and did not end within {_GRACE} s, so the connection was closed, which ends it"
            raise LoopError(why, where=self._host, next="run it again")
        if self._begun and seconds is not None and now - self._begun > seconds:
            raise LoopError(
                f"the command did not end within {seconds:.0f} s, so it was ended", where=self._host,
                next=f"see what it does: fab logs -H {self._host} -n 20",
            )  # fmt: skip
        if self._begun and silence is not None and now - max(self._heard, self._sender.moved) > silence:
            raise LoopError(
                f"the command has said nothing for {silence:g} s, so it was ended", where=self._host,
                next=f"see what holds it: fab logs -H {self._host} -n 20",
            )  # fmt: skip


@contextmanager
def _passing(sender: _Sender, request: Request) -> Iterator[Callable[[], None]]:
    """Yield a function; from its call to the end of the block, pass on standard input and signals."""
    begun = False

    def begin() -> None:
        nonlocal begun
        if begun:
            return
        begun = True
        source = 0 if request.feeds else request.source
        if source is not None:
            threading.Thread(target=sender.pass_input, args=(source,), daemon=True).start()
        else:
            # From another thread: a host may take nothing, and must still be heard, and given up.
            end = threading.Thread(target=sender.send, args=(b"E", b""), daemon=True)
            end.start()
            end.join(_LOOK)

    with _signals(sender, request), _raw(request):
        yield begin


@contextmanager
def _signals(sender: _Sender, request: Request) -> Iterator[None]:
    """Send Ctrl-C, SIGTERM and a new size of the terminal to the command; a second signal ends us."""
    if not request.feeds:
        yield
        return
    received: list[int] = []

    def forward(number: int, _: object) -> None:
        if received:
            raise SystemExit(128 + number)
        received.append(number)
        # Send from another thread: the signal may have come while this one holds the lock.
        threading.Thread(target=sender.send, args=(b"S", str(int(number)).encode()), daemon=True).start()

    def resize(*_: object) -> None:
        size = os.get_terminal_size(1)
        data = struct.pack(">HH", size.lines, size.columns)
        threading.Thread(target=sender.send, args=(b"W", data), daemon=True).start()

    handlers: dict[int, Any] = {signal.SIGINT: forward, signal.SIGTERM: forward, signal.SIGHUP: forward}
    if request.terminal:
        handlers[signal.SIGWINCH] = resize
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _raw(request: Request) -> Iterator[None]:
    """Let our terminal pass on each key: the terminal of the command interprets it."""
    if not request.terminal:
        yield
        return
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def run_all(members: Sequence[Member], wanted: Command) -> int:
    """Run the command on several hosts at once, without input; print each line with its host.

    Return the highest exit status. A host without one has an error.
    """
    names = host_names.padded([member.host.name for member in members], sys.stdout, os.environ)
    writers, statuses = {"stdout": output.out(), "stderr": output.err()}, []

    def answer(member: Member, emit: Callable[[tuple[str, str, str]], None]) -> None:
        lines = Lines(lambda word, line: emit((member.host.name, word, line)))
        try:
            statuses.append(run(member, Request(wanted, None, lines.show, feeds=False)))
        finally:
            lines.close()

    for host, word, line in on_each(members, answer, lambda item: taken(item[2])):
        writers[word].raw(f"{names[host]}  {quote.terminal(line)}")
    return max(statuses, default=FAILED)


def terminal() -> Terminal | None:
    """Return our terminal; None unless both standard input and output are one."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    size = os.get_terminal_size(1)
    return Terminal(os.environ.get("TERM", "dumb"), size.lines, size.columns)


def show_on(stdout: IO[Any], stderr: IO[Any], *, escaped: bool) -> Show:
    """Return a function that writes each stream of the command to ours. escaped: escape what a terminal gets."""
    ours = {"stdout": stdout, "stderr": stderr}

    def show(word: str, data: bytes) -> None:
        if escaped and ours[word].isatty():
            lines = data.decode("utf-8", "replace").split("\n")
            data = "\n".join(map(quote.terminal, lines)).encode()
        view = memoryview(data)
        while view:
            view = view[os.write(ours[word].fileno(), view) :]

    return show


@dataclass
class Lines:
    """The output of one of several hosts, cut into lines. write: called with a stream and a line."""

    write: Callable[[str, str], None]
    _held: dict[str, bytes] = field(default_factory=dict)

    def show(self, word: str, data: bytes) -> None:
        """Write the lines that the data completes; a line of 64 kB is cut there."""
        *lines, rest = (self._held.get(word, b"") + data).split(b"\n")
        if len(rest) > 65536:
            lines, rest = [*lines, rest], b""
        self._held[word] = rest
        for line in lines:
            self.write(word, line.decode("utf-8", "replace"))

    def close(self) -> None:
        """Write what came without an end of line."""
        for word, rest in self._held.items():
            if rest:
                self.write(word, rest.decode("utf-8", "replace"))
        self._held.clear()
