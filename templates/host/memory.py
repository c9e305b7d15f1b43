"""The memory of the host, and the processes that were killed for want of it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

from . import programs, small_file
from .locks import PROC

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files that have the limit of a container."""
_KILLED = ("MESSAGE_ID=fe6faa94e7774663a0da52717891d8ef", "MESSAGE_ID=d989611b15e44c9dbf31e3c81256e4ed")
"""Messages of systemd: the kernel's OOM killer, or systemd-oomd, has killed a process of a unit."""
_SECONDS, _DAY, _LONGEST = 15, 86400, 1000
_LOOKS = 5


def of_the_host() -> tuple[int, int]:
    """Return the bytes of memory that this host has, and those that are available; 0 for what it does not say."""
    text = small_file.read(f"{PROC}/meminfo")
    total, available = (_kilobytes(text, word) for word in ("MemTotal", "MemAvailable"))
    limits = [int(limit) for path in _LIMITS if (limit := small_file.read(path).strip()).isdigit()]
    whole = min([total, *limits])
    return whole, min(available, whole)


def _kilobytes(text: str, word: str) -> int:
    found = re.search(rf"^{word}:\s*([0-9]+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def killed(units: Iterable[str], since: float) -> dict[str, int]:
    """Return how often processes were killed for want of memory, for each of these units with such a kill.

    since: seconds since 1970. systemd sees such a kill in a cgroup of version 2 only.
    """
    wanted = [f"UNIT={unit}" for unit in units]
    if not wanted:
        return {}
    words = ("journalctl", "-q", "--no-pager", "-o", "cat", "-n", "100", "--since", f"@{since:.2f}")
    lines, _ = programs.last_lines(*words, "_PID=1", "_UID=0", *_KILLED, *wanted, seconds=_SECONDS, longest=_LONGEST)
    found: dict[str, int] = {}
    for line in lines:
        unit = line.partition(": ")[0]
        if f"UNIT={unit}" in wanted:
            found[unit] = found.get(unit, 0) + 1
    return found


def killed_lately(units: Iterable[str]) -> dict[str, int]:
    """Return the same for the last 24 hours."""
    return killed(units, time.time() - _DAY)


def fault(unit: str, since: float, *, signalled: bool) -> str:
    """Return the end of a message about a process of a unit that died; empty unless it was for want of memory.

    signalled: a signal ended it, so look more than once, since the journal may be late
    """
    for look in range(_LOOKS if signalled else 1):
        if look:
            time.sleep(0.1)
        if killed([unit], since):
            return (
                f": a process of {unit} was killed for want of memory (OOM). Raise limits.memory in "
                "service.yaml, start fewer workers, or give the host more memory"
            )
    return ""
