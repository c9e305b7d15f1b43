"""Handmade advisories in the form of OSV."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def record(name: str, package: str = "flask", *events: dict[str, str], **more: Any) -> Record:
    """Return an advisory for versions of a package, by default for all before 3.1."""
    ranges = [{"type": "ECOSYSTEM", "events": list(events) or [{"introduced": "0"}, {"fixed": "3.1"}]}]
    affected = {"package": {"ecosystem": "PyPI", "name": package}, "ranges": ranges}
    return {"id": name, "modified": "2026-11-01T00:00:00Z", "summary": f"{name} is bad", "affected": [affected], **more}


def export(path: Path, *records: Record, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write an export: a zip by its name, else JSON lines."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", method) as archive:
            for number, one in enumerate(records):
                archive.writestr(f"{number}.json", json.dumps(one))
    else:
        path.write_text("".join(f"{json.dumps(one)}\n" for one in records))
    return path
