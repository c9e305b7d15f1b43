"""Build the wheel of the project in service/ and unpack it: `site/` of a release, first on the path of its Python.

The build runs on the controller, in a copy of the files that the release has: equal files make an equal site. The venv,
which releases share, gets nothing of the site, so a change of the code builds no venv.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.exceptions import InstallerError
from installer.records import RecordEntry
from installer.sources import WheelFile
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from uv import find_uv_bin

from tasks.engine import local_program, plain_file
from tasks.engine.errors import UsageError
from tasks.engine.release import archive, index_settings, pip, wheel_cache
from tasks.engine.release.archive import Entry, Tree
from tasks.engine.release.indexes import Indexes

_WHERE = "service/pyproject.toml"
_NO_PACKAGE = "if the project is no package, write `package = false` below [tool.uv]"
_SECONDS = 1800
_UNUSED = 30 * 86400
"""Seconds after which a site that no run has used is removed from the cache."""
# Variables by which build backends take a version that they would read from git, which the copy has not.
_VERSIONS = ("SETUPTOOLS_SCM_PRETEND_VERSION", "PBR_VERSION", "PDM_BUILD_SCM_VERSION")
_PYTHON = b"#!/release/venv/bin/python\n"
# sh reads the second line, Python a text in quotes. `site/bin` finds the venv of its release by its own place.
_RELOCATABLE = b"""#!/bin/sh
'''exec' "$(cd -- "$(dirname -- "$0")/../.." && pwd)/venv/bin/python" "$0" "$@"
' '''
"""


def build(tree: Tree, service: Path) -> tuple[Entry, ...]:
    """Return the files of the project's wheel, with paths below `site/`; scripts are in `bin/`.

    service: the directory whose settings name the package indexes that the build may ask.

    UsageError if the build fails, or makes a wheel for one platform alone. Equal trees are built once.
    """
    cache = wheel_cache.default_root().parent / "projects"
    place = cache / _key(tree)
    if (kept := _kept(place)) is None:
        with wheel_cache.scratch(cache) as name:
            _make(tree, Path(name), index_settings.find(service))
            _move(Path(name) / "made", place)
        kept = _kept(place)
        if kept is None:
            raise UsageError("the site of the project cannot be read", where=str(place), next="run the command again")
    os.utime(place)
    _forget(cache)
    return kept


def _key(tree: Tree) -> str:
    """Return a digest of all that the build gets."""
    lines = [f"{entry.mode:o} {entry.sha256}  {entry.path}\n" for entry in tree.entries]
    versions = [f"{name}={value}\n" for name, value in _versions().items()]
    return hashlib.sha256("".join([*lines, *versions, sys.version]).encode()).hexdigest()


def _versions() -> dict[str, str]:
    return {name: os.environ.get(name, "0") for name in _VERSIONS}


def _make(tree: Tree, scratch: Path, indexes: Indexes) -> None:
    """Build the wheel in a copy of the tree, and unpack it into `made`."""
    source, wheels, made = scratch / "source", scratch / "wheels", scratch / "made"
    for entry in tree.entries:
        # A build backend would leave out what git ignores; the release has it because `include` names it.
        if entry.source.name != ".gitignore":
            target = source / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(entry.read())
            target.chmod(entry.mode)
    (made / "site").mkdir(parents=True)
    _unpack(_run(source, wheels, indexes), made / "site")
    (made / "LIST").write_bytes(archive.manifest(_entries(made / "site")))


def _run(source: Path, wheels: Path, indexes: Indexes) -> Path:
    """Run uv, which runs the project's build backend; return the wheel."""
    command = [find_uv_bin(), "build", "--wheel", "--color=never", "--no-progress", "--no-python-downloads"]
    command += ["--python", sys.executable, "--out-dir", str(wheels), str(source)]
    command += ["--no-index"] if indexes.alone else []
    environment = {
        **indexes.for_uv(source.parent),
        **_versions(),
        "SOURCE_DATE_EPOCH": pip.REPRODUCIBLE,
        "NO_COLOR": "1",
    }
    ended = local_program.run(command, environment=environment, seconds=_SECONDS)
    failed = "the wheel of the project could not be built" if ended.status else ""
    if ended.status is None:
        failed = f"the wheel of the project was not built within {_SECONDS} s"
    made = sorted(wheels.glob("*.whl")) if wheels.is_dir() else []
    if failed or len(made) != 1:
        raise UsageError(
            failed or "the build of the project made no wheel",
            where=_WHERE,
            next="fix what the build reports; it has only files of the release, and takes the `requires` of "
            f"[build-system] from {indexes}. {_NO_PACKAGE.capitalize()}",
            detail=indexes.hide([line.replace(str(source), "service") for line in ended.lines]),
        )
    return made[0]


def _unpack(wheel: Path, site: Path) -> None:
    """Unpack a wheel that fits every platform."""
    try:
        _, _, _, tags = parse_wheel_filename(wheel.name)
    except InvalidWheelFilename:
        tags = frozenset()
    if not any(tag.interpreter == "py3" and tag.abi == "none" and tag.platform == "any" for tag in tags):
        raise UsageError(
            f"the project builds into a wheel that does not fit every Python: {wheel.name}",
            where=_WHERE,
            next=f"put the compiled part into a package of its own; {_NO_PACKAGE}",
        )
    places = {"purelib": site, "platlib": site, "scripts": site / "bin", "headers": site / "include", "data": site}
    try:
        with WheelFile.open(wheel) as source:
            install(source, _Site({name: str(place) for name, place in places.items()}), additional_metadata={})
    except (InstallerError, zipfile.BadZipFile, ValueError, OSError) as error:
        raise UsageError(f"the wheel of the project cannot be unpacked: {error}", where=_WHERE, next="correct what it "
                         "contains, which its build backend chooses") from error  # fmt: skip
    for record in site.glob("*.dist-info/RECORD"):
        record.write_bytes(b"".join(sorted(plain_file.read(record).splitlines(keepends=True))))


class _Site(SchemeDictionaryDestination):  # type: ignore[misc]
    """Where a wheel is unpacked. Says nothing of the tool that built it, and its scripts find their venv."""

    def __init__(self, places: dict[str, str]) -> None:
        super().__init__(places, interpreter="/release/venv/bin/python", script_kind="posix")

    def write_to_fs(self, scheme: str, path: str, stream: BinaryIO, is_executable: bool) -> RecordEntry:
        """Write a file below its scheme's directory."""
        top = Path(self.scheme_dict[scheme]).resolve()
        if not (top / path).resolve().is_relative_to(top):
            raise ValueError(f"{path!r} lies outside")
        if scheme == "scripts":
            is_executable = True
            stream = io.BytesIO(stream.read().replace(_PYTHON, _RELOCATABLE, 1))
        elif path.endswith(".dist-info/WHEEL"):
            lines = stream.read().splitlines(keepends=True)
            stream = io.BytesIO(b"".join(line for line in lines if not line.startswith(b"Generator:")))
        return super().write_to_fs(scheme, path, stream, is_executable)


def _kept(place: Path) -> tuple[Entry, ...] | None:
    """Return the site that an earlier run built; None if there is none, or it is not whole."""
    try:
        listed = plain_file.read(place / "LIST")
        entries = tuple(_entries(place / "site"))
    except OSError:
        return None
    return entries if archive.manifest(entries) == listed else None


def _entries(site: Path) -> Iterator[Entry]:
    """Yield the files of a site; UsageError for one that no release may have, such as a private key."""
    names = sorted(str(path.relative_to(site)) for path in site.rglob("*") if path.is_symlink() or not path.is_dir())
    yield from archive.examine(site, map(os.fsencode, names), _WHERE)


def _move(made: Path, place: Path) -> None:
    """Put a site in its place, unless another run was faster; one that is not whole makes way."""
    try:
        made.rename(place)
    except OSError:
        if _kept(place) is None:
            place.rename(made.with_name("broken"))
            made.rename(place)


def _forget(cache: Path) -> None:
    """Remove the sites that no run has used for long."""
    for place in cache.iterdir():
        # Another run may be removing it.
        with suppress(OSError):
            if time.time() - place.stat().st_mtime > _UNUSED:
                with wheel_cache.scratch(cache) as aside:
                    place.rename(Path(aside) / "unused")
