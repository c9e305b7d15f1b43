"""Read one host's journal over its connection: past lines, and new ones as they come."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tasks.engine.errors import LoopError
from tasks.engine.fleet.member import Member
from tasks.engine.host import log_entries
from tasks.engine.host.log_entries import Entry, Wanted
from tasks.engine.logs import lines, tracebacks
from tasks.engine.ssh.channels import Begun, send, within
from tasks.engine.ssh.session import LinkLost, command, framed

KEPT = 1024 * 1024
"""Bytes of past lines that are kept for a host; older lines are only counted."""
_SECONDS = 900
"""Seconds in which a host must send its past lines."""
_SENT = 1024 * 1024 * 1024
"""Bytes of past lines that a host may send."""
_AGAIN = "run the command again"


class Refused(LoopError):
    """The journal cannot be read in this way, and a retry would not help."""

    code = "journal"


@dataclass
class Past:
    """The past lines of a host. dropped: number of lines beyond the limit; cursor: the place to follow from."""

    entries: list[Entry] = field(default_factory=list)
    dropped: int = 0
    cursor: str | None = None


def past(member: Member, wanted: Wanted) -> Past:
    """Read the wanted entries that the host has, the oldest first: as many as asked for, and at most 1 MiB."""
    past = Past()
    if wanted.follow:
        # Read before the lines, so that none is missed between the two.
        past.cursor = next((entry.cursor for entry in _entries(member, log_entries.newest_script(), _SECONDS)), None)
    starts = _starts(member, wanted) if wanted.release else ()
    if wanted.release and not starts:
        return past
    kept: deque[Entry] = deque()
    size = 0
    newest_first = wanted.last is not None
    said = _noted(
        past, _entries(member, log_entries.last_script(member.service, wanted, starts), _SECONDS), first=newest_first
    )
    for entry in tracebacks.newest_first(said) if newest_first else tracebacks.oldest_first(said):
        if not wanted.has(entry, member.service):
            continue
        kept.append(entry)
        size += entry.size
        if newest_first and len(kept) + past.dropped == wanted.last:
            break
        while size > KEPT and len(kept) > 1:
            # Drop the oldest.
            size -= (kept.pop() if newest_first else kept.popleft()).size
            past.dropped += 1
    past.entries = list(reversed(kept)) if newest_first else list(kept)
    return past


def _starts(member: Member, wanted: Wanted) -> tuple[str, ...]:
    said = _entries(member, log_entries.announced_script(member.service, wanted), _SECONDS)
    return log_entries.invocations(wanted.release, said)


def _noted(past: Past, entries: Iterator[Entry], *, first: bool) -> Iterator[Entry]:
    """Pass lines on, and note the place of the newest, which is the first or the last of them."""
    for number, entry in enumerate(entries):
        if entry.cursor and (number == 0 or not first):
            past.cursor = entry.cursor
        yield entry


def onwards(member: Member, wanted: Wanted, cursor: str | None) -> Iterator[Entry]:
    """Yield every line after this place as it is written, without end; LinkLost when journalctl ends."""
    for number, entry in enumerate(_entries(member, log_entries.follow_script(member.service, wanted, cursor))):
        # Only the first line is the one at that place. A line that was too long has the place of the line before.
        if number or entry.cursor != cursor:
            yield entry
    raise LinkLost("journalctl ended", where=member.host.name, next=_AGAIN)


def _entries(member: Member, script: str, seconds: float | None = None) -> Iterator[Entry]:
    """Yield the entries that the script prints; Refused with the complaint if it fails, LinkLost without an end mark.

    seconds: limit for the whole; None for a script that follows, and so has no end.
    """
    host, status, complaint = member.host.name, None, ""
    for line in _dated(host, lines.cut(_pieces(member, script, seconds), log_entries.LINE)):
        if isinstance(line, Entry):
            yield line
            continue
        text = line.decode("utf-8", "replace")
        if text.endswith("@begin"):
            complaint = ""
        elif text == "@unreadable":
            raise Refused("this account may not read the journal", where=host, next=f"fab setup -H {host}")
        elif text.startswith("@end "):
            status = text[5:]
        elif text.strip():
            complaint = f"{complaint} {text.strip()}".strip()[:1000]
    if status is None:
        raise LinkLost("the connection was lost", where=host, next=_AGAIN)
    # journalctl also ends with status 1 when no line matches the pattern.
    if complaint and status != "0":
        raise Refused(f"journalctl: {complaint}", where=host, next="correct --since, --until or --grep")


def _dated(host: str, said: Iterable[bytes | None]) -> Iterator[Entry | bytes]:
    """Yield entries, other lines, and an entry for each line that was too long, with time and place of the one before.

    Those before the first entry get one entry, with its time and place; without any entry, the present time and no
    place. (A host may send hundreds of millions of them.)
    """
    before, early = None, 0
    for line in said:
        if line is None or line == log_entries.TOO_LONG:
            if before is None:
                early += 1
            else:
                yield _too_long(before)
            continue
        entry = log_entries.parse(host, line)
        if entry and before is None and early:
            yield _too_long(entry, early)
        before = entry or before
        yield entry or line
    if before is None and early:
        yield _too_long(Entry(time.time(), host, "-", "warning", "", ""), early)


def _too_long(near: Entry, number: int = 1) -> Entry:
    # The source of the lines is unknown, since they were dropped.
    text = "(a line of more than 1 MiB is left out)"
    if number > 1:
        text = f"({number} lines of more than 1 MiB are left out)"
    return Entry(near.time, near.host, "-", "warning", text, near.cursor)


def _pieces(member: Member, text: str, seconds: float | None) -> Iterator[bytes]:
    deadline = time.monotonic() + seconds if seconds else None
    left = _SENT
    with member.connect().channel(Begun(command()), seconds) as channel:
        try:
            send(channel, (framed(text),))
            channel.shutdown_write()
            while data := channel.recv(65536):
                yield data
                if deadline is None:
                    continue
                within(channel, deadline)
                left -= len(data)
                if left < 0:
                    raise _endless(member, f"sends more than {_SENT // 1024**3} GiB")
        except TimeoutError as error:
            raise _endless(member, f"does not come to its end within {seconds:.0f} s") from error
        except OSError as error:
            raise LinkLost("the connection was lost", where=member.host.name, next=_AGAIN) from error


def _endless(member: Member, what: str) -> Refused:
    return Refused(f"the journal {what}", where=member.host.name, next="ask for less of it: -n, --since, --grep")


def merged(pasts: Sequence[Past]) -> list[Entry]:
    """Merge the lines of several hosts by time; keep the order of each journal, whatever its clock did."""
    stamped: list[tuple[float, Entry]] = []
    for past in pasts:
        latest = 0.0
        for entry in past.entries:
            latest = max(latest, entry.time)
            stamped.append((latest, entry))
    return [entry for _, entry in sorted(stamped, key=lambda pair: pair[0])]
