"""Let nginx speak HTTP/2 for our site alone, if it can: an nginx before 1.25.1 would switch all sites of the port."""

from __future__ import annotations

import os
import re

from . import programs
from .files import write_if_new

_FIRST = (1, 25, 1)
_VERSION = re.compile(r"nginx version: [^/\n]*/([0-9]{1,6})\.([0-9]{1,6})\.([0-9]{1,6})")


def write(name: str, run: str) -> bool:
    """Write the file that nginx includes, or remove it if this nginx is too old; return True if that changes it."""
    text = wanted(name)[_path(name)]
    return write_if_new(_path(name), text, run) if text else remove(name)


def wanted(name: str) -> dict[str, bytes]:
    """Return the file's text by its path, empty if this nginx is too old for the file."""
    return {_path(name): b"http2 on;\n" if _known() else b""}


def remove(name: str) -> bool:
    """Remove the file; return True if it was there."""
    there = os.path.lexists(_path(name))
    if there:
        os.unlink(_path(name))
    return there


def _known() -> bool:
    """Return whether this nginx knows the directive `http2`."""
    found = _VERSION.search(programs.ask("nginx", "-v", errors=True).output)
    return found is not None and tuple(map(int, found.groups())) >= _FIRST


def _path(name: str) -> str:
    return f"/etc/{name}/nginx/http2.conf"
