"""One host's journal over its connection: what is there, and what comes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tasks.engine.errors import LoopError
from tasks.engine.fleet.member import Member
from tasks.engine.host import journal
from tasks.engine.host.journal import Entry, Wanted
from tasks.engine.logs import lines
from tasks.engine.ssh.channels import Begun, within
from tasks.engine.ssh.session import LinkLost, command, framed, send

KEPT = 1024 * 1024
"""Bytes of a host that are kept of what is there already; older lines are counted instead."""
_LINE = 1024 * 1024
_SECONDS = 900
"""How long a host may take to send what is there already."""
_SENT = 1024 * 1024 * 1024
"""Bytes that it may send of that."""


class Refused(LoopError):
    """The journal cannot be read like this, and asking again would not help."""

    code = "journal"


@dataclass
class Past:
    """What was there. dropped: lines that were too many to keep; cursor: where to follow from."""

    entries: list[Entry] = field(default_factory=list)
    dropped: int = 0
    cursor: str | None = None


def past(member: Member, wanted: Wanted) -> Past:
    """The wanted lines that the host has, the oldest first: as many as asked for, and never more than 1 MiB."""
    found = Past()
    if wanted.follow:
        # Taken before the lines are, so that none can fall between the two.
        found.cursor = next((entry.cursor for entry in _entries(member, journal.newest(), _SECONDS)), None)
    kept: deque[Entry] = deque()
    size = 0
    newest_first, seen = wanted.last is not None, False
    for entry in _entries(member, journal.last(member.service, wanted), _SECONDS):
        if not (newest_first and seen):
            found.cursor = entry.cursor
        seen = True
        if not wanted.has(entry, member.service):
            continue
        kept.append(entry)
        size += entry.size
        if newest_first and len(kept) + found.dropped == wanted.last:
            break
        while size > KEPT and len(kept) > 1:
            # The oldest one, on whichever end it is.
            size -= (kept.pop() if newest_first else kept.popleft()).size
            found.dropped += 1
    found.entries = list(reversed(kept)) if newest_first else list(kept)
    return found


def onwards(member: Member, wanted: Wanted, cursor: str | None) -> Iterator[Entry]:
    """Every line after this place as it is written, without an end of its own; LinkLost when it ends all the same."""
    for entry in _entries(member, journal.onwards(member.service, wanted, cursor)):
        if entry.cursor != cursor:
            yield entry
    raise LinkLost("journalctl ended", where=member.host.name)


def _entries(member: Member, script: str, seconds: float | None = None) -> Iterator[Entry]:
    """The entries that the script prints; Refused with its complaint when it fails, LinkLost without an end.

    seconds: how long it may take in all; None for one that follows, and so has no end.
    """
    host, status, complaint, before = member.host.name, None, "", None
    for line in lines.cut(_pieces(member, script, seconds), _LINE):
        entry = _too_long(before) if line is None else journal.parse(host, line)
        if entry:
            before = entry
            yield entry
            continue
        text = (line or b"").decode("utf-8", "replace")
        if text.endswith("@begin"):
            complaint = ""
        elif text == "@unreadable":
            raise Refused("this account may not read the journal", where=host, next=f"fab setup -H {host}")
        elif text.startswith("@end "):
            status = text[5:]
        elif text.strip():
            complaint = f"{complaint} {text.strip()}".strip()[:1000]
    if status is None:
        raise LinkLost("the connection was lost", where=host)
    # It ends with 1, too, when nothing fits the pattern.
    if complaint and status != "0":
        raise Refused(f"journalctl: {complaint}", where=host, next="correct --since, --until or --grep")


def _too_long(before: Entry | None) -> Entry | None:
    if before is None:
        return None
    # Who wrote it is not known: it was not kept.
    text = "(a line of more than 1 MiB is left out)"
    return Entry(before.time, before.host, "-", "warning", text, before.cursor)


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
            raise LinkLost("the connection was lost", where=member.host.name) from error


def _endless(member: Member, told: str) -> Refused:
    return Refused(f"the journal {told}", where=member.host.name, next="ask for less of it: -n, --since, --grep")


def merged(pasts: Sequence[Past]) -> list[Entry]:
    """The lines of several hosts by time; those of one stay in the order of its journal, whatever its clock did."""
    stamped: list[tuple[float, Entry]] = []
    for past in pasts:
        latest = 0.0
        for entry in past.entries:
            latest = max(latest, entry.time)
            stamped.append((latest, entry))
    return [entry for _, entry in sorted(stamped, key=lambda pair: pair[0])]
