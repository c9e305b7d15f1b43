"""Find a file of a wheel's `.dist-info` that is too large to be read: uv, pip and the host read each as a whole."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from tasks.engine import plain_file
from tasks.engine.errors import UsageError
from tasks.engine.release import package_folders


def fault(wheel: zipfile.ZipFile) -> str:
    """Return the name and the size of such a file; an empty text if there is none. build_venv.py has the same limit."""
    for entry in wheel.infolist():
        inside = entry.filename.partition("/")[0].endswith(".dist-info")
        if inside and entry.file_size > plain_file.LIMIT:
            return f"{entry.filename} has {entry.file_size / 1e6:.0f} MB, and may have {plain_file.LIMIT / 1e6:g}"
    return ""


def check(folder: Path | None) -> None:
    """Raise UsageError for such a file in one of the operator's own wheels; others report a wheel that is damaged."""
    for _, _, file in package_folders.packages(folder) if folder else ():
        try:
            with plain_file.opened(file) as opened, zipfile.ZipFile(opened) as wheel:
                found = fault(wheel)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
            continue
        if found:
            raise UsageError(
                f"the wheel is too large to be read: {found}",
                where=f"service/{package_folders.OWN}/{file.name}",
                next="build it again, or remove it, then: fab lock",
            )
