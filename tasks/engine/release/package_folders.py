"""Folders of packages on this machine: an index of them for uv, and their hashes for the lock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from tasks.engine.release import wheel_cache

OWN = "wheels"
"""The folder of the operator's own wheels, beside requirements.in. A release does not carry them as files."""
_HASH = r"    --hash=sha256:[0-9a-f]{64}"
_ENTRY = re.compile(
    rf"^(?P<head>(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)(?=[\s;\\])[^\n]*\\\n)"
    rf"(?P<hashes>(?:{_HASH} \\\n)*{_HASH})$",
    re.MULTILINE,
)


def is_own(path: str) -> bool:
    """Return True for the path, below `service/`, of one of the operator's own wheels."""
    folder, _, name = path.rpartition("/")
    return folder == OWN and name.endswith(".whl")


def write_index(folders: Iterable[Path], place: Path) -> str:
    """Write an index of the packages in these folders into a new directory, and return its address."""
    place.mkdir()
    for folder in folders:
        for name, _, file in packages(folder):
            page = place / name / "index.html"
            page.parent.mkdir(exist_ok=True)
            with page.open("a", encoding="utf-8") as lines:
                lines.write(f'<a href="{file.absolute().as_uri()}">{file.name}</a>\n')
    return place.absolute().as_uri()


def complete(lock: str, folders: Iterable[Path]) -> str:
    """Return the text of a lock with all hashes of each package that came from one of these folders.

    uv records only the hash of the file that it looked at, so the lock would fit one Python and one platform.
    """
    found = [list(packages(folder)) for folder in folders]

    def completed(entry: re.Match[str]) -> str:
        hashes = set(re.findall(r"[0-9a-f]{64}", entry["hashes"]))
        for files in found:
            these = [file for name, version, file in files if _is(entry, name, version)]
            digests = set(map(wheel_cache.digest, these))
            if digests & hashes:
                hashes |= digests
        return entry["head"] + " \\\n".join(f"    --hash=sha256:{digest}" for digest in sorted(hashes))

    return _ENTRY.sub(completed, lock)


def packages(folder: Path) -> Iterator[tuple[str, Version, Path]]:
    """Yield name, version and file of each wheel and source in a folder."""
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            if file.suffix == ".whl":
                name, version, *_ = parse_wheel_filename(file.name)
            else:
                name, version = parse_sdist_filename(file.name)
        except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
            continue
        yield name, version, file


def _is(entry: re.Match[str], name: str, version: Version) -> bool:
    return canonicalize_name(entry["name"]) == name and Version(entry["version"]) == version
