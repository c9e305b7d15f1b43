"""The rules for files of a release: plain ones of a fair size, with unambiguous names and without secrets."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from tasks.engine import plain_file

LIMIT = plain_file.LIMIT
"""The largest file of a release, in bytes, unless `include` of service.yaml names it."""

DEPTH = 100
"""Directories above a file of a release, at most: programs that walk through them may call themselves for each."""
_SHOWN = 200

CACHES = frozenset(
    {".git", ".venv", "venv", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}
    | {".tox", ".nox"}
)
"""Names of directories that other programs make anew."""

# Bytecode, which the host makes under the same names; files of desktops; swap, backup and lock files of editors.
_LITTER = re.compile(
    r".*\.py[co]|\.DS_Store|\._.+|Thumbs\.db|desktop\.ini|\..+\.sw[a-p]|.+~|\.#.+|#.+#", re.IGNORECASE | re.DOTALL
)
_LFS = b"version https://git-lfs.github.com/spec/v1\n"
_LFS_SIZE = 1024
"""Bytes that a pointer of Git LFS has at most."""
_KEY_NAMES = re.compile(r"id_(rsa|dsa|ecdsa|ed25519|ecdsa_sk|ed25519_sk)|.*\.(ppk|p12|pfx)", re.IGNORECASE)
_ENV_NAMES = re.compile(r"\.env(\..+)?")
_ENV_SAMPLES = (".example", ".sample", ".template", ".dist")
_KEY_CONTENT = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----|\APuTTY-User-Key-File-")


_KEEPERS = frozenset({".gitkeep", ".keep", ".gitignore"})
"""Files by which git keeps a directory that is empty otherwise."""


class Refusal(NamedTuple):
    """One refused file: its path below `service/`, the reason, and what to do about it."""

    path: str
    reason: str
    remedy: str


def is_litter(path: str) -> bool:
    """Return True for a file that no release needs, committed or not."""
    return _LITTER.fullmatch(path.rpartition("/")[2]) is not None


def keeps_shared(path: str, shared: Collection[str]) -> bool:
    """Return True for a file that only keeps a directory of `shared` in git: no release needs it."""
    return path.rpartition("/")[2] in _KEEPERS and place_of(path, shared) is not None


def place_of(path: str, shared: Collection[str]) -> str | None:
    """Return the directory of `shared` that a path lies in, or is."""
    return next((place for place in shared if path == place or path.startswith(f"{place}/")), None)


def check_shared(path: str, shared: Collection[str]) -> Refusal | None:
    """Refuse a file where a directory of `shared` is, in it or above it: on a host it is a link to the data."""
    place = place_of(path, shared)
    remedy = f"git rm -r --cached service/{place}, add it to .gitignore, and take it out of `include`"
    if place is None:
        place = next((one for one in shared if one.startswith(f"{path}/")), None)
        remedy = "rename the file"
    if place is None:
        return None
    reason = f"{place} is `shared`, so on a host it lies in STATE_DIRECTORY and not in a release"
    return Refusal(path, reason, f"{remedy}; or remove {place} from `shared` in service.yaml")


def check_parents(folder: Path, path: str) -> Refusal | None:
    """Refuse a file behind a symbolic link to a directory: git lists such files, too, if it tracks them."""
    for above in Path(path).parents[:-1]:
        if (folder / above).is_symlink():
            return Refusal(path, f"{above} is a symbolic link", "put a copy of the directory in its place")
    return None


def check_distinct(paths: Iterable[str]) -> list[Refusal]:
    """Refuse each file whose name looks like that of another, and is the same to some file systems."""
    known: dict[str, str] = {}
    refused = []
    for path in paths:
        first = known.setdefault(unicodedata.normalize("NFC", path), path)
        if first != path:
            refused.append(Refusal(path, "another file has the same name, in other code points", "rename one of them"))
    return refused


def check_name(raw: bytes) -> Refusal | None:
    """Refuse a file for its name alone."""
    shown = ascii(os.fsdecode(raw))[1:-1]
    try:
        path = raw.decode()
    except UnicodeDecodeError:
        return Refusal(shown, "its name is not UTF-8", "rename it")
    if path == "-" or not path.isprintable() or "\\" in path:
        return Refusal(shown, "its name holds an invisible character or a backslash, or is a lone dash", "rename it")
    if path.count("/") > DEPTH:
        return Refusal(path[:_SHOWN], f"it lies in more than {DEPTH} directories", "move it up")
    name = path.rpartition("/")[2]
    if _ENV_NAMES.fullmatch(name) and not name.endswith(_ENV_SAMPLES):
        remedy = (
            "add it to .gitignore; write what is no secret into `env:` of service.yaml, and the names of secrets into "
            "`secrets:`: docs/SECRETS.md"
        )
        return Refusal(path, "environment files hold secrets", remedy)
    if _KEY_NAMES.fullmatch(name):
        return Refusal(
            path,
            "its name is that of a private key",
            "move it out of service/, and make a new key if it was ever committed",
        )
    return None


def check_type(path: str, status: os.stat_result, *, included: bool = False) -> Refusal | None:
    """Refuse a path that is no plain file, or is too large and not named by `include`."""
    if stat.S_ISLNK(status.st_mode):
        return Refusal(path, "it is a symbolic link", "put a copy of the file in its place")
    if stat.S_ISDIR(status.st_mode):
        return Refusal(path, "it is a git repository of its own", "copy its files, or add it to .gitignore")
    if not stat.S_ISREG(status.st_mode):
        return Refusal(path, "it is no plain file", "remove it, or add it to .gitignore")
    if status.st_size > LIMIT and not included:
        weight = f"{status.st_size / 1e6:.1f} MB, over {LIMIT // 10**6} MB"
        return Refusal(
            path,
            f"it has {weight}",
            "name it in `include` of service.yaml, keep it outside of service/, or add it to .gitignore",
        )
    return None


def check_content(suffix: str, path: str, data: bytes) -> Refusal | None:
    """Refuse a pointer of Git LFS; a file that holds a private key: in its first 4096 bytes, or anywhere if its suffix
    is that of a key."""
    if data.startswith(_LFS) and len(data) < _LFS_SIZE:
        return Refusal(path, "it is a pointer of Git LFS in place of the file", "git lfs pull")
    if not _KEY_CONTENT.search(data if suffix in {".pem", ".key"} else data[:4096]):
        return None
    return Refusal(
        path, "it holds a private key", "move it out of service/, and make a new key if it was ever committed"
    )
