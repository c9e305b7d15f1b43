"""Run the copy of this program that a host keeps: python3 -I -S /opt/apps/NAME/.program/DIGEST/__main__.py

It belongs to the deploy account, and runs as that account alone: root gets the program anew each time.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

_MODULES, _LARGEST = 200, 1 << 20
"""More modules, or bytes of one, than this program will ever have."""
DAMAGED = 4
"""The exit status of a copy that is not what its digest says, or not for this Python: the controller sends it anew."""


def sha256(data: bytes = b"") -> Any:
    """The interpreter's own: to load OpenSSL for it takes longer, and more memory, than all the rest of a guard."""
    for name in ("_sha2", "_sha256"):
        with suppress(ImportError):
            return import_module(name).sha256(data)
    return import_module("hashlib").sha256(data)


def digest(sources: Mapping[str, str]) -> str:
    """What names a version of the program: the first 12 hex digits of the SHA-256 of its modules, by name."""
    found = sha256()
    for name, text in sorted(sources.items()):
        found.update(f"{name} {len(text)}\n{text}".encode("utf-8", "surrogateescape"))
    return str(found.hexdigest()[:12])


def read(place: str) -> dict[str, str]:
    """The modules of a copy, by name; OSError or ValueError where anything else lies there that could be imported."""
    if set(os.listdir(place)) - {"host", "__main__.py", "python"}:
        raise ValueError("there is more than a copy")
    found: dict[str, str] = {}
    for file in os.listdir(f"{place}/host"):
        if file.endswith(".py") and len(found) < _MODULES:
            found[file[:-3]] = _text(f"{place}/host/{file}")
        elif file != "__pycache__":
            raise ValueError(f"{file} is no module of ours")
    return found


def _text(path: str) -> str:
    """A regular file of ours: no link, no pipe, and of a bounded size."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
            raise ValueError(f"{path} is no module of ours")
        return file.read(_LARGEST).decode("utf-8", "surrogateescape")


def _refusal(place: str) -> str:
    """Why the copy cannot be run; empty where it can."""
    try:
        if digest(read(place)) != os.path.basename(place):
            return "damaged"
        sys.path.insert(0, place)
        import_module("host.main")
    except ImportError as error:
        # An upgrade of the system may have taken modules away, or a part of it is not there.
        return f"{sys.executable}: {error}"
    except (OSError, ValueError):
        return "damaged"
    return ""


def main() -> None:
    """Check the copy that this file lies in, and run it."""
    place = os.path.dirname(os.path.abspath(__file__))
    os.chdir("/")
    why = _refusal(place)
    if why and sys.argv[1:]:
        sys.exit(f"{place} cannot be run: {why}. Try another copy beside it, or another Python")
    if why:
        nonce = sys.stdin.buffer.readline().decode().rstrip("\n")
        # By hand: a module for JSON may be what is missing.
        why = " ".join(why.split()).replace("\\", "/").replace('"', "'")
        os.write(1, f'\n{nonce} {{"report": "program", "text": "{why}"}}\n'.encode("utf-8", "replace"))
        sys.exit(DAMAGED)
    import_module("host.main").start({})


if __name__ == "__main__":
    main()
