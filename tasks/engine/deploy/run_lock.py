"""The run lock of each host, held by a process there as long as we send it bytes. So a lock never needs unlocking."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

from tasks.engine.errors import LoopError
from tasks.engine.events import Step
from tasks.engine.fleet.member import Member, room_to_show
from tasks.engine.fleet.step_errors import busy
from tasks.engine.host import history, steps
from tasks.engine.host.protocol import Report, Transcript
from tasks.engine.host.steps import HostStep
from tasks.engine.parallel import Emit
from tasks.engine.ssh.byte_stream import LINK_SECONDS
from tasks.engine.ssh.channels import send, within
from tasks.engine.ssh.session import LinkLost
from tasks.engine.ssh.ssh_session import SshSession

_HEARTBEAT = 8.0
"""Seconds between two bytes; the host releases the lock after 30 without one."""
_PATIENCE = 30
"""Seconds beyond the wait for another run in which a host must read the step, and answer."""


@contextmanager
def _answering(member: Member) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LinkLost(
            "the host stopped answering while this run took its lock, or did not finish in time",
            where=member.host.name,
            next=f"fab status -H {member.host.name}",
        ) from error


class Claim(NamedTuple):
    """The intent of a run on a host. seen: the last action that it saw in the host's history, if any."""

    action: str
    release: str
    seen: tuple[history.Action, ...]


class RunLocks:
    """The run locks of one run. A thread keeps each, so a host that reads nothing holds up no other."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def take(self, member: Member, claim: Claim, wait: int, emit: Emit) -> bool:
        """Take the run lock of this host; raise LoopError with its holder if another run keeps it beyond `wait` s.

        Return True if another run has acted there meanwhile: the facts that we have may be outdated.
        """
        session = member.connect()
        step = steps.hold(member.service, claim.action, claim.release, wait)
        transcript = session.with_program(step, lambda placed: self._ask(session, member, placed, wait, emit))
        session.keeps_program = transcript.last("kept") is not None
        if transcript.last("held") is not None:
            return history.parse(transcript.all("last"))[-1:] != claim.seen
        holder = transcript.last("busy")
        if holder is not None:
            raise busy(member.host.name, holder)
        why = transcript.last("refused") or "the host gave no reason"
        raise LoopError(
            f"the lock of the run cannot be taken: {why}", where=member.host.name, detail=tuple(transcript.tail)
        )

    def _ask(self, session: SshSession, member: Member, step: HostStep, wait: int, emit: Emit) -> Transcript:
        """Return the host's reports until it holds the lock for us, or its program ends."""
        transcript, room = Transcript(), room_to_show(member.host.name, emit)
        with ExitStack() as undo:
            channel, reader, rest = undo.enter_context(session.begun(step, member.run, wait + _PATIENCE))
            undo.enter_context(_answering(member))
            send(channel, rest, wait + _PATIENCE)
            deadline = time.monotonic() + wait + _PATIENCE
            while data := channel.recv(65536):
                within(channel, deadline)
                for item in reader.feed(data):
                    transcript.add(item)
                    if isinstance(item, Report) and item.word == "busy" and wait:
                        text = busy(member.host.name, item.text).message
                        if room.has(text):
                            emit(Step(member.host.name, "lock", "wait", text))
                if transcript.last("held") is not None:
                    self._keep(channel, undo.pop_all())
                    break
        return transcript

    def _keep(self, channel: Any, opened: ExitStack) -> None:
        channel.settimeout(0)
        thread = threading.Thread(target=self._beat, args=(channel, opened), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _beat(self, channel: Any, opened: ExitStack) -> None:
        # The thread that works on that host finds and reports a lost link.
        while not self._ended.wait(_HEARTBEAT):
            with suppress(Exception):
                channel.send(b".")
        with suppress(Exception):
            opened.close()

    def release(self) -> None:
        """Release all locks; a host that does not read releases its lock when its connection ends."""
        self._ended.set()
        until = time.monotonic() + LINK_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
