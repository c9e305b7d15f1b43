"""Files of a backup or a restore that is at work: hidden, locked by it, and removed by the next one if it was killed.

They hold the service's data in plain, also where the archives are encrypted.
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

from tasks.engine import plain_file

_NAME = re.compile(r"\.([0-9]+-)?.+\.tar\.gz(\.part|\.age)?")


def part_of(target: Path) -> Path:
    """Return the path of an archive that is not whole yet."""
    return target.with_name(f".{target.name}.part")


def create(path: Path) -> IO[Any]:
    """Create a file that only we read; it is locked until it is closed. Raises OSError."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another process may have removed it before we had the lock.
        with suppress(FileNotFoundError):
            if os.path.samestat(path.lstat(), os.fstat(descriptor)):
                return os.fdopen(descriptor, "w+b")
        os.close(descriptor)


def begin(folder: Path, name: str, moment: datetime, suffixes: tuple[str, ...]) -> tuple[IO[Any], Path, datetime]:
    """Create the file of an archive whose name no archive in the folder has; return it, that name, and its time.

    The name has a second, so that of a restore which follows a backup at once may be taken: then a later one is.
    Raises OSError.
    """
    while True:
        target = folder / f"{name}-{moment:%Y%m%dT%H%M%SZ}.tar.gz"
        part = part_of(target)
        with suppress(FileExistsError):
            file = create(part)
            # As long as it is there, no other process can make an archive of that name.
            if not any(target.with_name(target.name + suffix).exists() for suffix in suffixes):
                return file, target, moment
            part.unlink()
            file.close()
        moment += timedelta(seconds=1)


def tidy(folder: Path) -> None:
    """Remove the files in a folder that were left by processes which are gone."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if not _NAME.fullmatch(path.name):
            continue
        with suppress(OSError), plain_file.opened(path, follow=False) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
