"""Run a user's command on hosts: print each line with its host as it comes, and collect the exit statuses."""

from __future__ import annotations

import hashlib
import math
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tasks.engine import quote
from tasks.engine.errors import Unreachable
from tasks.engine.fleet import step_errors
from tasks.engine.fleet.each import on_each
from tasks.engine.fleet.member import Member
from tasks.engine.host.protocol import Output, Reader, Report, Transcript
from tasks.engine.report import host_names, output
from tasks.engine.room import taken
from tasks.engine.ssh.channels import Begun, send, status, within
from tasks.engine.ssh.session import LinkLost

_KEPT = 1024 * 1024
_GRACE = 5
"""Seconds that a command may take to end after the SIGTERM of -T, and as many again until the link counts as lost."""
_BEGIN = 60
"""Seconds that a host may take to begin a command; without -T the command itself has no limit."""

_Line = tuple[str, str]
_Emit = Callable[[_Line], None]


@dataclass
class Answer:
    """The result of a command. lines: its output for JSON, at most 1 MiB; dropped: the number of lines beyond."""

    status: int = 0
    seconds: float = 0.0
    lines: list[str] = field(default_factory=list)
    dropped: int = 0
    timed_out: bool = False
    _size: int = 0

    def keep(self, line: str) -> None:
        """Keep the line while there is room."""
        self._size += taken(line)
        if self._size > _KEPT:
            self.dropped += 1
        else:
            self.lines.append(line)

    def end(self, seconds: float, limit: int | None) -> None:
        """Set the seconds that it took, and whether -T ended it. limit: the seconds of -T."""
        self.seconds = seconds
        self.timed_out = bool(limit) and self.status in {124, 137} and seconds >= (limit or 0)

    def as_dict(self) -> dict[str, object]:
        """Return plain data for JSON."""
        return {
            "exit": self.status,
            "seconds": round(self.seconds, 3),
            "timed_out": self.timed_out,
            "output": self.lines,
            "dropped_lines": self.dropped,
        }


def run_all(members: Sequence[Member], line: str, *, as_json: bool) -> dict[str, Answer]:
    """Run the shell text on all hosts; print its lines or keep them for JSON. A host without an answer has an error."""
    answers: dict[str, Answer] = {}
    writer = output.out()
    names = host_names.padded([member.host.name for member in members], sys.stdout, os.environ)

    def answer(member: Member, emit: _Emit) -> None:
        answers[member.host.name] = _run(member, line, emit, as_json=as_json)

    for host, text in on_each(members, answer, lambda item: taken(item[1])):
        writer.raw(f"{names[host]}  {quote.terminal(text)}")
        if writer.closed:
            # Our reader is gone, and a command may never end by itself.
            for member in members:
                member.close()
            raise BrokenPipeError
    return {member.host.name: answers[member.host.name] for member in members if member.host.name in answers}


def rows(members: Sequence[Member], answers: dict[str, Answer]) -> list[tuple[str, str, str, str]]:
    """Return the table of exit statuses, with the hosts that have none."""
    table = [("host", "exit", "seconds", "")]
    for member in members:
        answer = answers.get(member.host.name)
        if answer:
            remark = f"ended by -T {member.options.command_timeout}" if answer.timed_out else ""
            table.append((member.host.name, str(answer.status), f"{answer.seconds:.1f}", remark))
        else:
            remark = "unreachable" if isinstance(member.error, Unreachable) else "unknown"
            table.append((member.host.name, "-", "-", remark))
    return table


def wrap(line: str, nonce: str, seconds: int | None) -> tuple[str, str]:
    """Return the command line for sshd, the same for any login shell, and the script that it reads and runs.

    The script reports its begin and lets the login shell run the text; with -T, `timeout` ends the shell. The script
    turns a signal into a number: sshd reports a signal like a lost connection. It keeps the output open while the
    command runs, whatever the command closes, so the wait for the status begins only after the command's end.
    """
    limit = f"timeout --kill-after={_GRACE} {seconds} " if seconds else ""
    # A digest of the nonce: any user of the host can read the command line, and the nonce authenticates our lines.
    first = f"# {hashlib.sha256(nonce.encode()).hexdigest()[:16]}"
    # Begin with a newline: the login's greeting may lack one.
    begin = f'{first}\nprintf \'\\n%s {{"report": "begin"}}\\n\' {nonce}\n'
    script = f'{begin}{limit}"${{SHELL:-/bin/sh}}" -c {quote.shell(line)}\nexit $?\n'
    # If the login has read a part of the script, the rest is not run.
    whole = f'case $script in "{first}"*) eval "$script" ;; esac'
    return f"exec /bin/sh -c 'script=$(head -c {len(script.encode())}); {whole}'", script


def _run(member: Member, line: str, emit: _Emit, *, as_json: bool) -> Answer:
    answer, began, limit = Answer(), time.monotonic(), member.options.command_timeout
    patience = limit + 2 * _GRACE if limit else None
    by_hand = f"see what runs there: fab shell -H {member.host.name}"
    reader, before = Reader(secrets.token_hex(8)), Transcript()
    command, script = wrap(line, reader.nonce, limit)

    def deadline() -> float | None:
        return began + patience if patience else None if before.reports else opened + _BEGIN

    with member.connect().channel(Begun(command), patience or _BEGIN) as channel:
        opened = time.monotonic()
        try:
            # Ignore errors: a login that has ended already explains itself in its output.
            with suppress(OSError):
                send(channel, (script.encode(),), patience or _BEGIN)
                channel.shutdown_write()
            for item in read_items(reader, channel, deadline):
                if isinstance(item, Report) or not before.reports:
                    # Before the first report, the login prints, not the command.
                    before.add(item)
                elif as_json:
                    answer.keep(item.text)
                else:
                    emit((member.host.name, item.text))
            answer.status = before.exit = status(channel, deadline() or math.inf)
        except TimeoutError as error:
            when = "before the command began"
            if before.reports:
                when = "while the command ran, and gave no exit status; the command may go on there"
            raise LinkLost(f"the host stopped answering {when}", where=member.host.name, next=by_hand) from error
    if answer.status == -1:
        lost = "the connection was lost while the command ran; the command may go on there"
        raise LinkLost(lost, where=member.host.name, next=by_hand)
    if not before.reports:
        raise step_errors.unstarted(before, member.host.name, member.login)
    answer.end(time.monotonic() - began, limit)
    return answer


def read_items(reader: Reader, channel: Any, deadline: Callable[[], float | None]) -> Iterator[Report | Output]:
    """Yield what a channel receives, in lines of limited length; TimeoutError past the deadline, which may change."""
    while True:
        until = deadline()
        if until is None:
            channel.settimeout(None)
        else:
            within(channel, until)
        data = channel.recv(65536)
        if not data:
            break
        yield from reader.feed(data)
    yield from reader.close()
