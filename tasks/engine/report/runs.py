"""Keep the logs of runs on this machine, and the hosts that the last run left behind."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from tasks.engine import plain_file
from tasks.engine.errors import UsageError

_KEPT = 50


def folder(root: Path, environ: Mapping[str, str]) -> Path:
    """Return the folder of this clone's runs, below $XDG_STATE_HOME or ~/.local/state."""
    base = Path(environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser())
    return base / "integrators-loop" / f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"


def open_log(place: Path, run: str) -> IO[str] | None:
    """Open the log of a run, and delete the oldest logs; return None if it cannot be written here."""
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in sorted(place.glob("*.log"))[: -_KEPT + 1]:
            old.unlink(missing_ok=True)
        path = place / f"{run}.log"
        return open(path, "x", encoding="utf-8", errors="backslashreplace", opener=_private)
    except OSError:
        return None


def keep_faults(place: Path, run: str, faults: Mapping[str, str]) -> str | None:
    """Write a query's log, the tracebacks by host, and return its path; None if it cannot be written."""
    log = open_log(place, run)
    if log is None:
        return None
    with log:
        for host, trace in faults.items():
            log.write(json.dumps({"event": "fault", "host": host, "traceback": trace}) + "\n")
    return log.name


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def save_left_behind(place: Path, behind: Sequence[str]) -> None:
    """Record the hosts that a run left behind, for --retry-failed."""
    try:
        part = place / ".last.part"
        part.write_text(json.dumps({"behind": list(behind)}))
        part.replace(place / "last.json")
    except OSError:
        return


def left_behind(place: Path) -> tuple[str, ...]:
    """Return the hosts that the last run left behind; UsageError when there are none."""
    try:
        last = json.loads(plain_file.read(place / "last.json"))
        names = tuple(str(name) for name in last["behind"])
    except (OSError, ValueError, KeyError, TypeError):
        names = ()
    if not names:
        raise UsageError("the last run left no host behind", where="--retry-failed", next="fab status")
    return names
