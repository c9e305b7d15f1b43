"""Name and read files of this machine: regular files only, up to a limit. A device or a pipe is refused at once."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO

LIMIT = 10 * 1000 * 1000
"""The largest file by default, in bytes."""


class NotPlain(OSError):
    """The file is not a regular one, or too large; `strerror` says which."""


def named(text: str) -> Path:
    """Return the path that an operator wrote, with `~` expanded; `~NAME` stays as it is if there is no such account."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises for an unknown account


def read(path: Path, limit: int = LIMIT, *, follow: bool = True) -> bytes:
    """Return the bytes of a regular file; NotPlain for another kind or more than `limit` bytes."""
    return load(path, limit, follow=follow)[0]


def load(path: Path, limit: int = LIMIT, *, follow: bool = True) -> tuple[bytes, os.stat_result]:
    """Return the bytes of a regular file and its status."""
    with opened(path, follow=follow) as file:
        data = file.read(limit + 1)
        status = os.fstat(file.fileno())
    if len(data) > limit:
        raise NotPlain(errno.EFBIG, f"it has more than {limit / 1e6:g} MB", str(path))
    return data, status


def opened(path: Path, *, follow: bool = True) -> IO[bytes]:
    """Open a regular file for reading. follow: whether `path` may be a symbolic link."""
    # Without O_NONBLOCK a pipe waits for its writer.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotPlain(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(handle, "rb")
