"""Read nginx's own configuration: as whom its workers run, and whether it reads the files of conf.d."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from . import programs, small_file

FOLDER = "/etc/nginx"
_USER = re.compile(r"^[ \t]*user\s+([^\s;]{1,100})", re.MULTILINE)
_INCLUDE = re.compile(r"^[ \t]*include\s+[\"']?([^\"';\s]{1,4096})", re.MULTILINE)


def worker() -> str:
    """Return the account that nginx.conf names for nginx's workers; empty if it names none."""
    # Not only root may write there, on some hosts: a pipe is not waited for.
    found = _USER.search(small_file.read(f"{FOLDER}/nginx.conf", 1 << 18))
    return found[1] if found else ""


def reads(path: str) -> bool:
    """Return whether nginx includes this file, which may not be there yet; True if its configuration is invalid."""
    dumped = programs.ask("nginx", "-T")
    patterns = (text if text.startswith("/") else f"{FOLDER}/{text}" for text in _INCLUDE.findall(dumped.output))
    return not dumped.well or any(
        fnmatchcase(path, pattern) and path.count("/") == pattern.count("/") for pattern in patterns
    )
