"""What this machine keeps of its runs: the full log of each, and which hosts the last one left behind."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from tasks.engine.errors import UsageError

_KEPT = 50


def folder(root: Path, environ: Mapping[str, str]) -> Path:
    """Below $XDG_STATE_HOME (or ~/.local/state), one for each clone."""
    base = Path(environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser())
    return base / "integrators-loop" / f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"


def open_log(place: Path, run: str) -> IO[str] | None:
    """The file for the log of a run; None where this machine lets none be written. The oldest give way."""
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in sorted(place.glob("*.log"))[: -_KEPT + 1]:
            old.unlink(missing_ok=True)
        path = place / f"{run}.log"
        return open(path, "x", encoding="utf-8", errors="backslashreplace", opener=_private)
    except OSError:
        return None


def keep_faults(place: Path, run: str, faults: Mapping[str, str]) -> str | None:
    """Write a log of nothing but tracebacks, by host: a query has no other; None where none can be written."""
    log = open_log(place, run)
    if log is None:
        return None
    with log:
        for host, trace in faults.items():
            log.write(json.dumps({"event": "fault", "host": host, "traceback": trace}) + "\n")
    return log.name


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def remember(place: Path, behind: Sequence[str]) -> None:
    """Note the hosts that a run left behind, for --retry-failed."""
    try:
        part = place / ".last.part"
        part.write_text(json.dumps({"behind": list(behind)}))
        part.replace(place / "last.json")
    except OSError:
        return


def left_behind(place: Path) -> tuple[str, ...]:
    """The hosts that the last run left behind; UsageError when there are none."""
    try:
        found = json.loads((place / "last.json").read_text())
        names = tuple(str(name) for name in found["behind"])
    except (OSError, ValueError, KeyError, TypeError):
        names = ()
    if not names:
        raise UsageError("the last run left no host behind", where="--retry-failed", next="fab status")
    return names
