"""The seam over SSH: one connection to a host, and the scripts that run on it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from tasks.engine.config.inventory import Host
from tasks.engine.errors import LoopError, Unreachable
from tasks.engine.host import host_program
from tasks.engine.host.protocol import Reader, Transcript
from tasks.engine.ssh import channels, connect_errors
from tasks.engine.ssh.channels import Begun
from tasks.engine.ssh.connection import LINK_SECONDS
from tasks.engine.ssh.session import LinkLost, Run, Sink, command, opening, stream
from tasks.engine.ssh.ssh_config import Options, resolve

if TYPE_CHECKING:
    from tasks.engine.host.steps import Script


_UNSTARTED = (1, 126, 127)
"""The statuses of an interpreter that does not start."""
SILENCE = 120
"""Seconds for which a host may take nothing of what it is sent."""


class SshSession:
    """A connection to one host that runs scripts; `become` is put before them (sudo, runuser)."""

    def __init__(self, host: Host, options: Options, user: str | None = None) -> None:
        self.host = host
        self.endpoint = resolve(host, options, user)
        self.become: tuple[str, ...] = ()
        self.keeps_program = True
        """Whether the host has the program, as far as is known: where it says no, that is sent."""
        self._options, self._named = options, user is not None
        self._line = channels.Line(self.endpoint, options)

    def close(self) -> None:
        """End the connection; a script that still runs notices at its next line."""
        self._line.close()

    def reopen(self) -> None:
        """A new connection in place of the old one, after a lost link."""
        self.close()
        self.renew()

    def renew(self) -> channels.Line:
        """A new connection for what follows, such as one of new group memberships; the former one goes on."""
        former, self._line = self._line, channels.Line(self.endpoint, self._options)
        return former

    def placed(self, script: Script) -> Script:
        """The script as it is sent: a copy that the host keeps is run by the account that deploys there alone.

        Neither root nor who was named for this command runs what another account could have written.
        """
        other = self._named or (self.endpoint.user == "root" and not self.become)
        return script if self.keeps_program and not other else script._replace(place="")

    def execute(self, script: Script, run: Run, sink: Sink, payload: Iterable[bytes] = ()) -> Transcript:
        """Run the script to its end; LinkLost when its end was not seen.

        The limit is `script.seconds` after the host took the last of the payload; SILENCE between two pieces of it.
        """
        # What only reads has a limit of its own, and what a run did is read back however short -T is.
        if self._options.command_timeout and script.stage != "facts":
            script = script._replace(seconds=self._options.command_timeout)
        placed = self.placed(script)
        transcript = self._execute(placed, run, sink, payload)
        sendable = not payload or isinstance(payload, Sequence)
        # The interpreter of a copy may have been broken since: what is sent anew looks for one that works.
        silent = placed.place and sendable and not transcript.reports and transcript.exit in _UNSTARTED
        if transcript.last(host_program.MISSING) is None and not silent:
            return transcript
        self.keeps_program = False
        if not sendable:
            # Some of that is gone by now.
            raise LoopError("the program that this host kept is gone, or damaged", where=self.host.name,
                            next="run it again: the program is sent anew", code="program")  # fmt: skip
        return self._execute(script._replace(place=""), run, sink, payload)

    def _execute(self, script: Script, run: Run, sink: Sink, payload: Iterable[bytes]) -> Transcript:
        nonce, line = secrets.token_hex(8), self._line
        reader, transcript = Reader(nonce), Transcript()
        become = ("sudo", "-n") if script.root and self.endpoint.user != "root" else self.become
        begun = Begun(command(become), opening(script))
        with self.channel(begun, script.seconds, followed=script.followed) as channel:
            feeder = _Feeder(channel, stream(script, run, nonce, payload))
            for data in _received(channel, self.host, script, feeder):
                for item in reader.feed(data):
                    transcript.add(item)
                    sink(item)
            feeder.finish()
            for item in reader.close():
                transcript.add(item)
                sink(item)
            transcript.exit = self._status(channel, script, feeder, transcript)
        if transcript.exit == -1:
            if line.active and not transcript.tail and not transcript.reports:
                raise self._refused("it starts no command")
            raise self._lost("the connection was lost", script, transcript)
        return transcript

    @contextmanager
    def channel(self, begun: Begun, seconds: float | None, *, followed: bool = False) -> Iterator[Any]:
        """A channel that runs one command line, its output and errors in one stream. seconds: of silence and in all.

        followed: the same is wanted next, and is begun meanwhile.
        """
        try:
            channel, done = self._line.session(begun, followed=followed)
            channel.settimeout(seconds)
        except Unreachable:
            raise
        except Exception as error:
            if isinstance(error, (EOFError, OSError)) or not self._line.active:
                raise LinkLost(
                    f"the connection was lost as a channel was opened: {connect_errors.words(error)}",
                    where=self.host.name,
                    next="run it again: what was done before is read back from the host first",
                ) from error
            raise self._refused(connect_errors.words(error)) from error
        fault: Exception | None = None
        try:
            yield channel
        except Exception as error:
            fault = error
        finally:
            done.close()
        breach = channel.get_transport().breach
        if breach:
            raise LinkLost(
                f"the connection was given up: {breach}",
                where=self.host.name,
                next=f"look at its sshd by hand: fab shell -H {self.host.name}",
            ) from fault
        if fault:
            raise fault

    def _status(self, channel: Any, script: Script, feeder: _Feeder, transcript: Transcript) -> int:
        """How the script ended; LinkLost, and the end of the connection, where the host does not say."""
        try:
            return channels.status(channel, feeder.moved + script.seconds)
        except TimeoutError as error:
            channel.get_transport().close()
            told = "the host closed its output and did not say how the script ended, so the connection was given up"
            raise self._lost(told, script, transcript) from error

    def _refused(self, told: str) -> Unreachable:
        return Unreachable(
            f"the host opens no further channel: {told}",
            where=self.host.name,
            next="check MaxSessions in its sshd_config",
        )

    def _lost(self, told: str, script: Script, transcript: Transcript) -> LinkLost:
        return LinkLost(
            f"{told} during {script.stage}: what it did is read back from the host",
            where=self.host.name,
            detail=tuple(transcript.tail),
        )


class _Feeder:
    """Writes standard input from a thread of its own, so that neither side waits for the other to read.

    moved: when the host last took a piece, by the monotonic clock; done: whether it took all.
    """

    def __init__(self, channel: Any, pieces: Iterable[bytes]) -> None:
        self._channel, self._pieces = channel, pieces
        self._error: BaseException | None = None
        self.moved, self.done = time.monotonic(), False
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        try:
            for piece in self._pieces:
                if not self._taken(piece):
                    return
                self.moved = time.monotonic()
            self.done = True
            self._taken(b"")
        except BaseException as error:  # for who waits for the script: a file that changed, or a fault of ours
            self._error = error
            self._channel.close()

    def _taken(self, piece: bytes) -> bool:
        """Write one piece, or the end where there is none; whether the other end is still there."""
        try:
            if not piece:
                self._channel.shutdown_write()
            while piece:
                # The clock of the reader, who gives up on a host that takes nothing: it is for him to say.
                with suppress(TimeoutError):
                    piece = piece[self._channel.send(piece) :]
        except Exception:  # whatever paramiko calls it: the reader sees that too, and knows more
            return False
        return True

    def finish(self) -> None:
        """Raise what went wrong on our side, such as a file that changed while it was read."""
        self._thread.join(LINK_SECONDS)
        if self._error:
            raise self._error


def _received(channel: Any, host: Host, script: Script, feeder: _Feeder) -> Iterator[bytes]:
    """Bytes until the end; a script past its limit costs the whole connection, since nothing else stops it.

    The clock of a script begins anew with each piece that the host takes of its payload: a host that answers cannot
    stretch it, a payload of any size can go over a link of any speed.
    """
    while True:
        limit = script.seconds if feeder.done else min(script.seconds, SILENCE)
        left = feeder.moved + limit - time.monotonic()
        if left <= 0:
            channel.get_transport().close()
            told = f"{script.stage} did not end within" if feeder.done else "the host took nothing of the upload for"
            raise LinkLost(f"{told} {limit:.0f} s, so the connection was given up", where=host.name)
        channel.settimeout(left)
        try:
            data = channel.recv(65536)
        except TimeoutError:
            continue
        if not data:
            return
        yield data
