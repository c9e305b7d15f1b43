"""Whether a release can run from a venv, by its files alone.

Nothing of it is started here, and no Python that looks there: a wheel may bring code that runs as soon as one does.
Whether it imports is for the slot to show, in its sandbox.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator

from .folders import DEEPEST

LIST = "FILES"
_LIST_BYTES = 64 << 20


def files(venv: str) -> set[str]:
    """A line for each file but bytecode: its size in bytes, the second of its last change, and its path."""
    return {_line(path, entry) for path, entry in _below(venv, "") if not _is_list(path, entry)}


def _is_list(path: str, entry: os.DirEntry[str]) -> bool:
    return path == LIST and entry.is_file(follow_symlinks=False)


def _line(path: str, entry: os.DirEntry[str]) -> str:
    status = entry.stat(follow_symlinks=False)
    return f"{status.st_size} {status.st_mtime_ns // 10**9} {path}"


def _below(folder: str, prefix: str) -> list[tuple[str, os.DirEntry[str]]]:
    """Path and entry of everything but directories and bytecode. Bytecode is a regular file: a link leads elsewhere."""
    if prefix.count("/") > DEEPEST:
        raise OSError(0, "it is nested too deep", folder)
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found += _below(entry.path, f"{prefix}{entry.name}/")
            elif not (entry.name.endswith(".pyc") and entry.is_file(follow_symlinks=False)):
                found.append((f"{prefix}{entry.name}", entry))
    return found


def whole(venv: str) -> bool:
    """Whether everything is there that was built, and the Python that it leads to."""
    python = os.path.realpath(f"{venv}/bin/python")
    if not (os.access(python, os.X_OK) and os.access(f"{venv}/bin/gunicorn", os.X_OK)):
        return False
    # Another Python may have taken its name, and would look elsewhere.
    name = os.path.basename(python)
    if name.startswith("python3.") and not os.path.isdir(f"{venv}/lib/{name}/site-packages"):
        return False
    if not os.path.lexists(f"{venv}/{LIST}"):
        packages = glob.glob(f"{glob.escape(venv)}/lib/*/site-packages")
        if not packages or not all(os.path.isfile(f"{path}/gunicorn/__init__.py") for path in packages):
            return False
    try:
        return not any(differences(venv))
    except OSError:
        return False


def differences(venv: str) -> Iterator[tuple[str, str]]:
    """(kind, path) of what is not as it was built: `points` for a link of somebody else, or `edited`.

    OSError for a venv that cannot be read.
    """
    found = [(path, entry) for path, entry in _below(venv, "") if not _is_list(path, entry)]
    yield from (("points", path) for path, entry in found if entry.is_symlink() and not _is_ours(venv, path))
    there = {_line(path, entry) for path, entry in found}
    if LIST in (path for path, _ in found):
        # No regular file: nobody opens what may be a FIFO.
        yield "edited", LIST
        return
    try:
        with open(f"{venv}/{LIST}", encoding="utf-8", errors="surrogateescape") as file:
            wanted = set(file.read(_LIST_BYTES).rstrip("\n").split("\n"))
    except FileNotFoundError:
        # Built by an older version, which wrote no list, or taken from a former deploy account (see `handover`).
        return
    paths = {line.split(" ", 2)[-1] for line in there ^ wanted}
    yield from (("edited", path) for path in sorted(paths))


def _is_ours(venv: str, path: str) -> bool:
    """Whether a link is of those that the module venv makes: lib64, and in bin what leads to where the Python lies."""
    if path == "lib64":
        return os.readlink(f"{venv}/{path}") == "lib"
    folder, _, name = path.rpartition("/")
    home = os.path.dirname(os.path.realpath(f"{venv}/bin/python"))
    return folder == "bin" and os.path.dirname(os.path.realpath(f"{venv}/bin/{name}")) == home
