"""The archives of one host in a folder of the controller."""

from __future__ import annotations

import re
from pathlib import Path


def prune(folder: Path, service: str, keep: int) -> list[Path]:
    """Remove all but the newest archives of a service; return those that are gone."""
    name = re.compile(rf"{re.escape(service)}-[0-9]{{8}}T[0-9]{{6}}Z\.tar\.gz(\.age)?")
    found = sorted(path for path in folder.iterdir() if name.fullmatch(path.name))
    old = found[:-keep]
    for path in old:
        path.unlink()
    return old


def size(count: int) -> str:
    """Return a number of bytes in words."""
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
