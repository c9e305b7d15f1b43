"""The journals of a fleet as one: read with journalctl on each host, merged by time, bounded in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone

from tasks.engine import layout, quote, report, saying
from tasks.engine.command import lines
from tasks.engine.errors import LoopError, UsageError
from tasks.engine.fanout import gather
from tasks.engine.member import Member
from tasks.engine.service import Service

_KEPT = 1024 * 1024
_LINES = 200


@dataclass(frozen=True)
class Wanted:
    """What of the journals: lines a host, journalctl's own times and pattern, and whether to go on."""

    lines: int | None
    since: str
    until: str
    grep: str
    follow: bool


@dataclass(frozen=True, order=True)
class Entry:
    """One line. time: seconds since 1970, by the clock of its host."""

    time: float
    host: str
    source: str
    text: str

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {"time": self.time, "host": self.host, "source": self.source, "text": self.text}

    def lines(self, width: int) -> Iterator[str]:
        """For a person: time (UTC), host, and what was said, in words where it is structured."""
        moment = datetime.fromtimestamp(self.time, timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        for text in saying.words(self.text):
            yield f"{moment}  {self.host.ljust(width)}  {self.source}: {text}"


def count(text: str) -> int | None:
    """`-n`; UsageError unless it is a whole number."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"-n takes a number of lines, not {text!r}", where="-n", next="fab logs -n 100")
    return int(text)


def command(service: Service, wanted: Wanted) -> str:
    """The journalctl that answers, with the messages of systemd about the units among the lines. Pure."""
    words = ["journalctl", "--no-pager", "--quiet", "--output=json"]
    words.append("--output-fields=MESSAGE,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT")
    units = (f"{service.name}.service", f"{service.name}@*", *layout.parts(service))
    units += tuple(unit.replace(".timer", ".service") for unit in layout.parts(service) if unit.endswith(".timer"))
    words += [f"--unit={unit}" for unit in units]
    shown = wanted.lines if wanted.lines is not None else (_LINES if not wanted.since else None)
    words += [f"--lines={shown}"] if shown is not None else []
    for name, value in (("since", wanted.since), ("until", wanted.until), ("grep", wanted.grep)):
        words += [f"--{name}={value}"] if value else []
    words += ["--follow"] if wanted.follow else []
    return " ".join(quote.shell(word) for word in words)


def parse(host: str, line: str) -> Entry | None:
    """An entry of journalctl's JSON; None for anything else. Messages that are not UTF-8 come as a list of bytes."""
    try:
        found = json.loads(line)
        message = found.get("MESSAGE")
        if isinstance(message, list):
            message = bytes(message).decode("utf-8", "replace")
        source = str(found.get("SYSLOG_IDENTIFIER") or "-")
        time = int(found["__REALTIME_TIMESTAMP"]) / 1e6
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return Entry(time, host, source, "(too long for the journal's reader)" if message is None else str(message))


def show(members: Sequence[Member], wanted: Wanted, *, as_json: bool) -> None:
    """Print them: all at the end, merged, or each as it comes."""
    width = max((len(member.host.name) for member in members), default=0)
    writer = report.out()
    if wanted.follow:
        for entry in _follow(members, wanted):
            if as_json:
                writer.raw(json.dumps({"schema": report.SCHEMA, **entry.as_dict()}))
            else:
                _print(writer, entry, width)
            if writer.closed:
                return
        return
    entries, dropped = _collect(members, wanted)
    if as_json:
        shown = [entry.as_dict() for entry in entries]
        report.document({"lines": shown, "dropped": dropped})
        return
    for entry in entries:
        _print(writer, entry, width)
    for host, number in dropped.items():
        report.err().line(f"{host}: {number} older lines are left out; -n, --since and --grep choose")


def _print(writer: report.Writer, entry: Entry, width: int) -> None:
    for text in entry.lines(width):
        writer.line(text)


def _read(member: Member, wanted: Wanted) -> Iterator[Entry]:
    with member.connect().channel(command(member.service, wanted), None) as channel:
        channel.shutdown_write()
        complaint = ""
        for line in lines(channel):
            entry = parse(member.host.name, line)
            if entry:
                yield entry
            else:
                complaint = line or complaint
        # With --grep, journalctl ends with 1 when nothing fits.
        if channel.recv_exit_status() not in {0, 1} or complaint:
            raise LoopError(f"journalctl: {complaint or 'it was ended'}", where=member.host.name,
                            next="correct --since, --until or --grep")  # fmt: skip


def _collect(members: Sequence[Member], wanted: Wanted) -> tuple[list[Entry], dict[str, int]]:
    """All lines by time, the newest 1 MiB of each host, and how many were left out."""
    found: dict[str, list[Entry]] = {}
    dropped: dict[str, int] = {}

    def take(member: Member, _: Callable[[Entry], None]) -> None:
        kept, size = found.setdefault(member.host.name, []), 0
        start = 0
        for entry in _read(member, wanted):
            kept.append(entry)
            size += len(entry.text)
            while size > _KEPT and start < len(kept) - 1:
                size -= len(kept[start].text)
                start += 1
            if start > 1000:
                del kept[:start]
                dropped[member.host.name] = dropped.get(member.host.name, 0) + start
                start = 0
        del kept[:start]
        if start:
            dropped[member.host.name] = dropped.get(member.host.name, 0) + start

    for _ in _each(members, take):
        pass
    return sorted(entry for entries in found.values() for entry in entries), dropped


def _follow(members: Sequence[Member], wanted: Wanted) -> Iterator[Entry]:
    """Lines as they come, from all hosts."""

    def take(member: Member, emit: Callable[[Entry], None]) -> None:
        for entry in _read(member, wanted):
            emit(entry)

    yield from _each(members, take)


def _each(members: Sequence[Member], take: Callable[[Member, Callable[[Entry], None]], None]) -> Iterator[Entry]:
    def work(member: Member) -> Callable[[Callable[[Entry], None]], None]:
        def begin(emit: Callable[[Entry], None]) -> None:
            try:
                take(member, emit)
            except LoopError as error:
                member.error = error
            finally:
                member.close()

        return begin

    # Followers do not end by themselves, so each needs a thread of its own.
    with ThreadPoolExecutor(max_workers=max(1, len(members))) as executor:
        try:
            yield from gather([work(member) for member in members], executor)
        finally:
            # Whoever reads has gone, or all have ended: either way nobody waits for a host any more.
            for member in members:
                member.close()
