"""Exchange two names of a directory, in one step where the system can, so that a power cut leaves neither missing."""

from __future__ import annotations

import errno
import os
from importlib import import_module

from .folders import Folder

_EXCHANGE = 2
"""RENAME_EXCHANGE of renameat2(2), which Python does not offer."""


def exchange(folder: Folder, name: str, other: str) -> None:
    """Exchange two names. Without RENAME_EXCHANGE, use three renames: `other` is missing between them."""
    if _at_once(folder, name, other):
        return
    spare = f"{name}-spare"
    folder.rename(other, spare)
    try:
        folder.rename(name, other)
    except BaseException:
        folder.rename(spare, other)
        raise
    folder.rename(spare, name)


def _at_once(folder: Folder, name: str, other: str) -> bool:
    """Exchange two names by one system call; return False if this system lacks it."""
    # Loaded here: an exchange is rare (a damaged release or venv), and each stage loads this module.
    ctypes = import_module("ctypes")
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    place = folder.descriptor
    if rename(place, os.fsencode(name), place, os.fsencode(other), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number not in {errno.ENOSYS, errno.EINVAL}:
        raise OSError(number, os.strerror(number), f"{folder.path}/{name}")
    return False
