"""Check by its files alone whether a release can run from a venv.

This starts nothing in it, and no Python that searches it: a wheel may bring code that runs as soon as a Python starts.
The slot, in its sandbox, shows whether the packages import.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterator

from .folders import DEEPEST, MOST, Folder

LIST = "FILES"
LINK = re.compile(r"\.\./\.\./venvs/[A-Za-z0-9._-]+")
"""Target of a release's link to its venv."""
_LIST_BYTES = 64 << 20


def files(venv: str) -> set[str]:
    """Return a line for each file except bytecode: size in bytes, last change in seconds since 1970, path."""
    return {_line(path, entry) for path, entry in _below(venv, "") if not _is_list(path, entry)}


def _is_list(path: str, entry: os.DirEntry[str]) -> bool:
    return path == LIST and entry.is_file(follow_symlinks=False)


def _line(path: str, entry: os.DirEntry[str]) -> str:
    status = entry.stat(follow_symlinks=False)
    return f"{status.st_size} {status.st_mtime_ns // 10**9} {path}"


def _below(folder: str, prefix: str) -> list[tuple[str, os.DirEntry[str]]]:
    """Return path and entry of all but directories and bytecode. A link named like bytecode counts as a file."""
    if prefix.count("/") > DEEPEST:
        raise OSError(0, "it is nested too deep", folder)
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found += _below(entry.path, f"{prefix}{entry.name}/")
            elif not (entry.name.endswith(".pyc") and entry.is_file(follow_symlinks=False)):
                found.append((f"{prefix}{entry.name}", entry))
            if len(found) > MOST:
                raise OSError(0, f"it has more than {MOST} files", folder)
    return found


def whole(venv: str) -> bool:
    """Return whether all that was built is there, and the Python that it links to.

    venv: the venv itself, or a release's link to it; no other link may lead there.
    """
    if not _is_in_place(venv):
        return False
    python = os.path.realpath(f"{venv}/bin/python")
    if not (os.access(python, os.X_OK) and os.access(f"{venv}/bin/gunicorn", os.X_OK)):
        return False
    # A Python of another version may have taken the name, and would search another directory.
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


def _is_in_place(venv: str) -> bool:
    try:
        if os.path.islink(venv):
            target = os.readlink(venv)
            if not LINK.fullmatch(target):
                return False
            venv = os.path.normpath(f"{os.path.dirname(venv)}/{target}")
        return all(stat.S_ISDIR(os.lstat(path).st_mode) for path in (venv, os.path.dirname(venv)))
    except OSError:
        return False


def differences(venv: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, path) of what differs from the build: `points` for a link that is not ours, or `edited`.

    Raises OSError for a venv that cannot be read.
    """
    entries = [(path, entry) for path, entry in _below(venv, "") if not _is_list(path, entry)]
    yield from (("points", path) for path, entry in entries if entry.is_symlink() and not _is_ours(venv, path))
    present = {_line(path, entry) for path, entry in entries}
    if LIST in (path for path, _ in entries):
        # Not a regular file. Do not open it: it may be a FIFO.
        yield "edited", LIST
        return
    try:
        with Folder.open(os.path.realpath(venv)) as folder:
            text = folder.read(LIST, _LIST_BYTES).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        # Built by an older version, which wrote no list, or taken from a former deploy account (see `handover`).
        return
    wanted = set(text.rstrip("\n").split("\n"))
    paths = {line.split(" ", 2)[-1] for line in present ^ wanted}
    yield from (("edited", path) for path in sorted(paths))


def _is_ours(venv: str, path: str) -> bool:
    """Return whether the module venv makes such a link: `lib64`, or one in `bin` to a file beside the Python."""
    if path == "lib64":
        return os.readlink(f"{venv}/{path}") == "lib"
    folder, _, name = path.rpartition("/")
    home = os.path.dirname(os.path.realpath(f"{venv}/bin/python"))
    return folder == "bin" and os.path.dirname(os.path.realpath(f"{venv}/bin/{name}")) == home
