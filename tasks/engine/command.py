"""A person's command on a host: its lines as they come, each with its host, and its exit status."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tasks.engine.marks import Output, Reader
from tasks.engine.member import Member
from tasks.engine.report import Writer
from tasks.engine.session import LinkLost

_KEPT = 1024 * 1024


@dataclass
class Answer:
    """status: the command's own; lines: what it printed, kept for JSON up to 1 MiB; dropped: lines beyond that."""

    status: int = 0
    seconds: float = 0.0
    lines: list[str] = field(default_factory=list)
    dropped: int = 0
    _size: int = 0

    def keep(self, line: str) -> None:
        """Keep the line while there is room."""
        self._size += len(line)
        if self._size > _KEPT:
            self.dropped += 1
        else:
            self.lines.append(line)

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {
            "exit": self.status,
            "seconds": round(self.seconds, 3),
            "output": self.lines,
            "dropped_lines": self.dropped,
        }


def run(member: Member, line: str, writer: Writer, *, as_json: bool) -> Answer:
    """Run the shell text, show its lines at once or keep them for JSON; LinkLost when its end was not seen."""
    answer, began = Answer(), time.monotonic()
    with member.connect().channel(line, member.options.command_timeout) as channel:
        channel.shutdown_write()
        try:
            for text in lines(channel):
                if as_json:
                    answer.keep(text)
                else:
                    writer.line(f"{member.host.name}  {text}")
                if writer.closed:
                    return answer
        except TimeoutError:
            told = f"the command was silent for {member.options.command_timeout} s; it may go on there"
            raise LinkLost(told, where=member.host.name, next="give it longer: -T") from None
        answer.status = channel.recv_exit_status()
    if answer.status == -1:
        raise LinkLost("the connection was lost while the command ran; it may go on there", where=member.host.name)
    answer.seconds = time.monotonic() - began
    return answer


def lines(channel: object) -> Iterator[str]:
    """The lines of a channel, in pieces no longer than a line may be."""
    # A nonce that nobody was told: every line is plain output.
    reader = Reader(secrets.token_hex(8))
    while data := channel.recv(65536):  # type: ignore[attr-defined]  # paramiko's Channel, untyped
        yield from (item.text for item in reader.feed(data) if isinstance(item, Output))
    yield from (item.text for item in reader.close() if isinstance(item, Output))
