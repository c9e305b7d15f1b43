"""Read what PID 1 logged about the slots, their guards and the traffic: the deploy account cannot change it.

The journal forgets: `Logged` says how far back it goes, in which boots.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any

from . import programs
from .fact_schema import Boot, Event, Logged
from .locks import PROC
from .service import Service
from .slot_names import SLOTS

_ENTRIES, _BOOTS, _STARTS = 1200, 30, 100
"""The newest entries, boots and starts of slots to read."""
_LONGEST, _ALL, _EACH = 8192, 15, 3
"""Bytes of an entry; seconds for all entries; seconds for one question about a boot or a start."""
_TOGETHER = 15
"""Seconds for all such questions; what is not answered by then stays unknown."""
_WORDS = {
    "39f53479d3a045ac8e11786248231fbf": "started",
    "9d1aaa27d60140bd96365438aad20286": "ended",
    "7ad2d189f7e94e70a38c781354912448": "ended",
    "d9b373ed55a64feb8242e02dbe79a49c": "failed",
    "5eb03494b6584870a536b337290809b3": "again",
}
"""Messages of systemd: a unit has started; was stopped; ended well; ended badly; will be started again by systemd."""
_STARTED = ("Started ", "Finished ")
_PID_1 = ("_PID=1", "_UID=0")
_ID = re.compile("[0-9a-f]{32}")
_RELEASE = re.compile("release ([0-9a-z]{1,40})")


def look(service: Service) -> tuple[Logged, list[Event]]:
    """Return how far the journal goes back, and its entries, the oldest first."""
    units = _units(service)
    wanted = (*(f"MESSAGE_ID={word}" for word in _WORDS), *(f"UNIT={unit}" for unit in units))
    lines, whole = programs.last_lines(
        *_journalctl("-n", str(_ENTRIES), *_PID_1, *wanted), seconds=_ALL, longest=_LONGEST
    )
    found = [entry for entry in map(_entry, lines) if entry]
    events = [event for entry in found if (event := _event(entry, units))]
    boots = list(dict.fromkeys([_this_boot(), *(event.boot for event in reversed(events))]))[:_BOOTS]
    kept = [event for event in events if event.boot in boots]
    cut = not whole or len(lines) >= _ENTRIES or len(kept) < len(events)
    end = time.monotonic() + _TOGETHER
    spans = {boot: _span(boot) for boot in boots if boot and time.monotonic() < end}
    return Logged(_born(service.root), spans, cut), list(_with_releases(kept, found, service, end))


def _units(service: Service) -> dict[str, tuple[str, str]]:
    """Return the units that tell of switches, each with its kind and slot."""
    found = {f"{service.name}-live@{slot}.service": ("live", slot) for slot in (*SLOTS, "none")}
    for slot in SLOTS:
        found[service.slot(slot)] = ("slot", slot)
        found[service.guard(slot)] = ("guard", slot)
        found[f"{service.name}-boot@{slot}.service"] = ("boot", slot)
    return found


def _journalctl(*words: str) -> tuple[str, ...]:
    fields = "MESSAGE,MESSAGE_ID,UNIT,INVOCATION_ID,_BOOT_ID"
    return ("journalctl", "-q", "--no-pager", "-o", "json", f"--output-fields={fields}", *words)


def _entry(line: str) -> dict[str, Any]:
    """Return an entry of the journal; empty for a line that is none."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _event(entry: dict[str, Any], units: dict[str, tuple[str, str]]) -> Event | None:
    kind, slot = units.get(str(entry.get("UNIT")), ("", ""))
    word, boot = _WORDS.get(str(entry.get("MESSAGE_ID")), ""), str(entry.get("_BOOT_ID"))
    # Older versions of systemd log a unit whose conditions do not hold as started, too.
    skipped = word == "started" and not str(entry.get("MESSAGE")).startswith(_STARTED)
    if not (kind and word and _ID.fullmatch(boot)) or skipped:
        return None
    return Event(
        _number(entry, "__REALTIME_TIMESTAMP"), _number(entry, "__MONOTONIC_TIMESTAMP"), boot, kind, slot, word
    )


def _number(entry: dict[str, Any], name: str) -> int:
    text = str(entry.get(name))
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _this_boot() -> str:
    try:
        with open(f"{PROC}/sys/kernel/random/boot_id", encoding="utf-8") as file:
            return file.read(64).strip().replace("-", "")
    except (OSError, ValueError):
        return ""


def _span(boot: str) -> Boot:
    """Return when PID 1 first and last logged something in a boot; 0 for unknown."""
    asked = _journalctl(*_PID_1, f"_BOOT_ID={boot}")
    first = _entry(programs.first_line(*asked, seconds=_EACH, longest=_LONGEST))
    last = _entry(programs.first_line(*asked, "-n", "1", seconds=_EACH, longest=_LONGEST))
    return Boot(_number(first, "__REALTIME_TIMESTAMP"), _number(last, "__REALTIME_TIMESTAMP"))


def _with_releases(
    events: list[Event], entries: Iterable[dict[str, Any]], service: Service, end: float
) -> Iterator[Event]:
    """Add to the newest starts of slots the release that the launcher named, in the first line of the start."""
    moments = {_number(entry, "__REALTIME_TIMESTAMP"): str(entry.get("INVOCATION_ID")) for entry in entries}
    starts = [event for event in events if (event.kind, event.word) == ("slot", "started")][-_STARTS:]
    for event in events:
        invocation = moments.get(event.time, "")
        if event in starts and _ID.fullmatch(invocation) and time.monotonic() < end:
            unit = f"_SYSTEMD_UNIT={service.slot(event.slot)}"
            asked = _journalctl(f"_SYSTEMD_INVOCATION_ID={invocation}", unit)
            said = _entry(programs.first_line(*asked, seconds=_EACH, longest=_LONGEST)).get("MESSAGE")
            named = _RELEASE.fullmatch(str(said))
            yield event._replace(release=named[1] if named else "")
        else:
            yield event


def _born(path: str) -> int:
    """Return the second in which root made the directory of the service; 0 if the file system does not say."""
    answer = programs.ask("stat", "-c", "%W", path, seconds=_EACH).output.strip()
    return int(answer) if answer.isascii() and answer.isdigit() and len(answer) < 12 else 0
