"""The seam over SSH: one connection to a host, and the steps that run on it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from tasks.engine.config.inventory import Host
from tasks.engine.errors import LoopError, Unreachable
from tasks.engine.host import host_program
from tasks.engine.host.protocol import Reader, Transcript
from tasks.engine.ssh import channels, connect_errors
from tasks.engine.ssh.byte_stream import LINK_SECONDS
from tasks.engine.ssh.channels import Begun
from tasks.engine.ssh.session import LinkLost, Run, Sink, command, opening, stream
from tasks.engine.ssh.ssh_config import Endpoint, Options, resolve

if TYPE_CHECKING:
    from tasks.engine.host.steps import HostStep


_UNSTARTED = (1, 126, 127)
"""The exit statuses of an interpreter that does not start."""
SILENCE = 120
"""Seconds for which a host may accept no data."""
_READ = frozenset({"facts", "libraries", "drift"})
"""The steps that change nothing on a host."""
_AGAIN = "run the command again"


class SshSession:
    """A connection to one host that runs steps.

    become: a prefix of the command line (sudo, runuser); endpoint: what `resolve` returned, if it was asked already.
    """

    def __init__(self, host: Host, options: Options, user: str | None = None, endpoint: Endpoint | None = None) -> None:
        self.host = host
        self.endpoint = endpoint or resolve(host, options, user)
        self.become: tuple[str, ...] = ()
        self.keeps_program = True
        """True until the host reports that it has no copy of the program, or a damaged one."""
        self._options, self._named = options, user is not None
        self._connection = channels.SharedConnection(self.endpoint, options)

    def close(self) -> None:
        """Close the connection; a step that still runs notices when it next writes a line."""
        self._connection.close()

    def reopen(self) -> None:
        """Replace the connection after a lost link."""
        self.close()
        self._connection = channels.SharedConnection(self.endpoint, self._options)

    def placed(self, step: HostStep) -> HostStep:
        """Return the step as it is sent: only the deploy account runs the copy that the host keeps.

        Neither root nor a user named for this command runs a file that another account could have written.
        """
        other = self._named or (self.endpoint.user == "root" and not self.become)
        return step if self.keeps_program and not other else step._replace(place="")

    def execute(self, step: HostStep, run: Run, sink: Sink, payload: Iterable[bytes] = ()) -> Transcript:
        """Run the step to its end; LinkLost if its end was not seen.

        The limit is `step.seconds` after the host took the last of the payload, and SILENCE between two pieces.
        """
        # -T does not apply to facts: they have a limit of their own, and a run must be read back however short -T is.
        if self._options.command_timeout and step.name != "facts":
            step = step._replace(seconds=self._options.command_timeout)
        # Part of any other payload is consumed, so it cannot be sent again.
        sendable = not payload or isinstance(payload, Sequence)
        return self.with_program(step, lambda placed: self._execute(placed, run, sink, payload), again=sendable)

    def with_program(
        self, step: HostStep, attempt: Callable[[HostStep], Transcript], *, again: bool = True
    ) -> Transcript:
        """Attempt a step by the copy that the host keeps; if the host has none that works, again with the program.

        again: False if the step cannot be sent twice; then raise LoopError for a missing copy.
        """
        placed = self.placed(step)
        transcript = attempt(placed)
        # The interpreter that made the copy may be broken by now: the program sent again looks for one that works.
        silent = placed.place and again and not transcript.reports and transcript.exit in _UNSTARTED
        if transcript.last(host_program.MISSING) is None and not silent:
            return transcript
        self.keeps_program = False
        if not again:
            raise LoopError("the program that this host kept is gone, or damaged", where=self.host.name,
                            next="run it again: the program is sent anew", code="program")  # fmt: skip
        return attempt(step._replace(place=""))

    @contextmanager
    def begun(
        self, step: HostStep, run: Run, seconds: float, payload: Iterable[bytes] = ()
    ) -> Iterator[tuple[Any, Reader, Iterator[bytes]]]:
        """Begin a step on a channel; yield the channel, the reader of its reports, and the pieces still to be sent.

        seconds: the longest wait for data.
        """
        nonce, begun = secrets.token_hex(8), self._begun(step)
        with self.channel(begun, seconds, ahead=self._next(step, begun), stays=step.stays) as channel:
            yield channel, Reader(nonce), stream(step, run, nonce, payload)

    def _begun(self, step: HostStep) -> Begun:
        as_root = () if self.endpoint.user == "root" else ("sudo", "-n")
        return Begun(command(as_root if step.root else self.become), opening(step.place))

    def _next(self, step: HostStep, begun: Begun) -> Begun | None:
        """Return how the next step begins, to start its process while this step runs; None if none is to be started.

        Two steps by a copy begin alike. After a first setup the deploy account is sent the program. If this step was
        sent the program, how the next begins is not known: it is root's, or runs by the copy that this step writes.
        """
        if not step.starts_next:
            return None
        if step.root:
            known = self.endpoint.user != "root" and not self.keeps_program
            return Begun(command(), opening("")) if known else None
        return begun if step.place else None

    def _execute(self, step: HostStep, run: Run, sink: Sink, payload: Iterable[bytes]) -> Transcript:
        connection, transcript = self._connection, Transcript()
        with self.begun(step, run, step.seconds, payload) as (channel, reader, rest):
            feeder = _Feeder(channel, rest, ends=not step.stays)
            for data in _received(channel, self.host, step, feeder):
                for item in reader.feed(data):
                    transcript.add(item)
                    sink(item)
                if step.stays and transcript.last(host_program.DIFFERS) is not None:
                    connection.begin_ahead(self._begun(step))
                if step.stays and transcript.ended:
                    feeder.finish()
                    if feeder.done:
                        connection.keep(channel, self._begun(step))
                    return transcript
            feeder.finish()
            for item in reader.close():
                transcript.add(item)
                sink(item)
            transcript.exit = self._status(channel, step, feeder, transcript)
        if transcript.exit == -1:
            if connection.active and not transcript.tail and not transcript.reports:
                raise self._refused("it starts no command")
            raise lost(f"the connection was lost during {step.name}", step, self.host.name, tuple(transcript.tail))
        return transcript

    @contextmanager
    def channel(
        self, begun: Begun, seconds: float | None, *, ahead: Begun | None = None, stays: bool = False
    ) -> Iterator[Any]:
        """Run one command line on a channel, its output and errors in one stream; close it at the end, unless kept.

        seconds: the longest wait for data. ahead: start this command meanwhile, for the next channel; stays: see
        `SharedConnection.open_channel`.
        """
        try:
            channel, done = self._connection.open_channel(begun, ahead, stays=stays)
            channel.settimeout(seconds)
        except Unreachable:
            raise
        except Exception as error:
            if isinstance(error, (EOFError, OSError)) or not self._connection.active:
                raise LinkLost(
                    f"the connection was lost as a channel was opened: {connect_errors.reason(error)}",
                    where=self.host.name,
                    next=_AGAIN,
                ) from error
            raise self._refused(connect_errors.reason(error)) from error
        fault: Exception | None = None
        try:
            yield channel
        except Exception as error:
            fault = error
        finally:
            if not self._connection.keeps(channel):
                done.close()
        breach = channel.get_transport().breach
        if breach:
            raise LinkLost(
                f"the connection was given up: {breach}",
                where=self.host.name,
                next=f"look at the host's sshd by hand: fab shell -H {self.host.name}",
            ) from fault
        if fault:
            raise fault

    def _status(self, channel: Any, step: HostStep, feeder: _Feeder, transcript: Transcript) -> int:
        """Return the step's exit status; close the connection and raise LinkLost if the host sends none."""
        try:
            return channels.status(channel, feeder.moved + step.seconds)
        except TimeoutError as error:
            channel.get_transport().close()
            why = f"the host closed its output without an end of {step.name}, so the connection was given up"
            raise lost(why, step, self.host.name, tuple(transcript.tail)) from error

    def _refused(self, why: str) -> Unreachable:
        return Unreachable(
            f"the host opens no further channel: {why}",
            where=self.host.name,
            next="check MaxSessions in the host's sshd_config",
        )


def lost(why: str, step: HostStep, host: str, detail: tuple[str, ...] = ()) -> LinkLost:
    """Return the error for a step whose end was not seen. detail: the last lines of the step's output."""
    if step.name in _READ:
        return LinkLost(why, where=host, next=_AGAIN, detail=detail)
    way = f"fab status -H {host}, then {_AGAIN}"
    return LinkLost(f"{why}: how far {step.name} came is not known", where=host, next=way, detail=detail)


class _Feeder:
    """A thread that writes standard input, so that neither side waits for the other to read.

    ends: whether it ends the input after the last piece
    moved: when the host last took a piece, by the monotonic clock; done: whether it took all
    """

    def __init__(self, channel: Any, pieces: Iterable[bytes], *, ends: bool) -> None:
        self._channel, self._pieces, self._ends = channel, pieces, ends
        self._error: BaseException | None = None
        self.moved, self.done = time.monotonic(), False
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        try:
            for piece in self._pieces:
                if not self._send(piece):
                    return
                self.moved = time.monotonic()
            self.done = True
            if self._ends:
                self._send(b"")
        except BaseException as error:  # a file that changed, or a fault of ours: finish() raises it
            self._error = error
            self._channel.close()

    def _send(self, piece: bytes) -> bool:
        """Write one piece, or the end of input for an empty one; return whether the peer is still there."""
        try:
            if not piece:
                self._channel.shutdown_write()
            while piece:
                # The channel's timeout is the reader's, and the reader gives up on a host that takes nothing.
                with suppress(TimeoutError):
                    piece = piece[self._channel.send(piece) :]
        except Exception:  # the reader meets the same fault, and knows more about it
            return False
        return True

    def finish(self) -> None:
        """Raise the fault of our side, such as a file that changed while it was read."""
        self._thread.join(LINK_SECONDS)
        if self._error:
            raise self._error


def _received(channel: Any, host: Host, step: HostStep, feeder: _Feeder) -> Iterator[bytes]:
    """Yield the output until its end; close the connection of a step past its limit, since nothing else stops it.

    The limit starts anew with each piece of the payload that the host takes: so a payload of any size can go over a
    link of any speed, and output alone cannot extend the limit.
    """
    while True:
        limit = step.seconds if feeder.done else min(step.seconds, SILENCE)
        left = feeder.moved + limit - time.monotonic()
        if left <= 0:
            channel.get_transport().close()
            fault = f"{step.name} did not end within" if feeder.done else "the host took nothing of the upload for"
            raise lost(f"{fault} {limit:.0f} s, so the connection was given up", step, host.name)
        channel.settimeout(left)
        try:
            data = channel.recv(65536)
        except TimeoutError:
            continue
        if not data:
            return
        yield data
