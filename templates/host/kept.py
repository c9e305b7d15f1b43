"""Run the copy of this program that a host keeps: python3 -I -S /opt/apps/NAME/.program/DIGEST/__main__.py

The copy belongs to the deploy account and runs only as that account: root is sent the program each time.
"""

from __future__ import annotations

import gc
import os
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

_MODULES, _LARGEST = 200, 1 << 20
"""Limits of a copy: modules, and bytes of one. The program stays far below them."""
DAMAGED = 4
"""Exit status of a copy that does not match its digest or does not load: the controller sends the program again."""


def sha256(data: bytes = b"") -> Any:
    """Return the interpreter's own SHA-256. To load OpenSSL takes more time and memory than the rest of a guard."""
    for name in ("_sha2", "_sha256"):
        with suppress(ImportError):
            return import_module(name).sha256(data)
    return import_module("hashlib").sha256(data)


def digest(sources: Mapping[str, str]) -> str:
    """Return the version of the program: 12 hex digits of the SHA-256 of its modules, by name."""
    hashed = sha256()
    for name, text in sorted(sources.items()):
        hashed.update(f"{name} {len(text)}\n{text}".encode("utf-8", "surrogateescape"))
    return str(hashed.hexdigest()[:12])


def read(place: str) -> dict[str, str]:
    """Return the modules of a copy, by name; OSError or ValueError if anything else there could be imported."""
    if set(_names(place)) - {"host", "__main__.py", "python"}:
        raise ValueError("there is more than a copy")
    modules: dict[str, str] = {}
    for file in _names(f"{place}/host"):
        if file.endswith(".py") and len(modules) < _MODULES:
            modules[file[:-3]] = _text(f"{place}/host/{file}")
        elif file != "__pycache__":
            raise ValueError(f"{file} is no module of ours")
    return modules


def _names(folder: str) -> list[str]:
    """Return the names in a directory, but no more than a few beyond what a copy has."""
    with os.scandir(folder) as found:
        return [entry.name for _, entry in zip(range(_MODULES + 2), found)]


def _text(path: str) -> str:
    """Return the text of a regular file of bounded size: no link and no pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
            raise ValueError(f"{path} is no module of ours")
        return os.read(descriptor, status.st_size).decode("utf-8", "surrogateescape")
    finally:
        os.close(descriptor)


def _refusal(place: str) -> str:
    """Return why the copy cannot run; empty if it can."""
    try:
        if digest(read(place)) != os.path.basename(place):
            return "damaged"
        sys.path.insert(0, place)
        import_module("host.main")
    except ImportError as error:
        # An upgrade of the system may have removed modules of the standard library.
        return f"{sys.executable}: {error}"
    except (OSError, ValueError):
        return "damaged"
    return ""


def main() -> None:
    """Check the copy that this file lies in, and run it."""
    place = os.path.dirname(os.path.abspath(__file__))
    os.chdir("/")
    # Modules are no garbage. To look for some among them takes a tenth of the start.
    gc.disable()
    why = _refusal(place)
    if why and sys.argv[1:]:
        sys.exit(f"{place} cannot be run: {why}. Try another copy beside it, or another Python")
    if why:
        nonce = sys.stdin.buffer.readline().decode().rstrip("\n")
        # Without the module json: it may be the missing one.
        why = " ".join(why.split()).replace("\\", "/").replace('"', "'")
        os.write(1, f'\n{nonce} {{"report": "program", "text": "{why}"}}\n'.encode("utf-8", "replace"))
        sys.exit(DAMAGED)
    import_module("host.main").start({})


if __name__ == "__main__":
    main()
