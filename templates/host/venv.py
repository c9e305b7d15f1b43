"""Whether a release can run from a venv, by its files alone.

Nothing of it is started here, and no Python that looks there: a wheel may bring code that runs as soon as one does.
Whether it imports is for the slot to show, in its sandbox.
"""

from __future__ import annotations

import glob
import os

LIST = "FILES"


def files(venv: str) -> set[str]:
    """A line for each file but bytecode: its size in bytes, the second of its last change, and its path."""
    return {f"{size} {changed} {path}" for size, changed, path in _below(venv, "") if path != LIST}


def _below(folder: str, prefix: str) -> list[tuple[int, int, str]]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found += _below(entry.path, f"{prefix}{entry.name}/")
            elif not entry.name.endswith(".pyc"):
                status = entry.stat(follow_symlinks=False)
                found.append((status.st_size, status.st_mtime_ns // 10**9, f"{prefix}{entry.name}"))
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
    try:
        with open(f"{venv}/{LIST}", encoding="utf-8", errors="surrogateescape") as file:
            wanted = set(file.read().rstrip("\n").split("\n"))
    except FileNotFoundError:
        # Built by an older version, which wrote no list.
        packages = glob.glob(f"{glob.escape(venv)}/lib/*/site-packages")
        return bool(packages) and all(os.path.isfile(f"{path}/gunicorn/__init__.py") for path in packages)
    except OSError:
        return False
    return files(venv) == wanted
