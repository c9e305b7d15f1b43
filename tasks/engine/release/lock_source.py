"""Find what `fab lock` makes the lock from: requirements.in and pyproject.toml, or uv.lock, or pylock.toml."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from packaging.utils import canonicalize_name

from tasks.engine.config.sections import DEPENDENCIES, Dependencies
from tasks.engine.errors import UsageError
from tasks.engine.release import pyproject, requirement_lines
from tasks.engine.release.pyproject import Project

REQUIREMENTS, UV, PYLOCK = "requirements.in", "uv.lock", "pylock.toml"


class Source(NamedTuple):
    """What a lock is made from. name: the file that has the versions, or the requirements

    files: all of them, in the order of the seal
    edit: where a person adds a package, for messages
    seal: digest of all that the lock depends on
    """

    name: str
    files: tuple[str, ...]
    project: Project | None
    edit: str
    seal: str

    @property
    def made_elsewhere(self) -> bool:
        """Return True if another program has chosen the versions."""
        return self.name in (UV, PYLOCK)


def find(folder: Path, wanted: Dependencies) -> Source | None:
    """Return what the lock of `folder` is made from; None if there is nothing. wanted: extras and groups."""
    wanted = normalized(wanted)
    there = [name for name in (REQUIREMENTS, UV, PYLOCK) if (folder / name).exists()]
    project = pyproject.read(folder)
    if len(there) > 1:
        raise UsageError(
            f"{' and '.join(there)} both say which packages the service needs",
            where=f"service/{there[1]}",
            next=f"keep one of them; {there[0]} is not needed beside {there[1]}",
        )
    if there == [UV] and project is None:
        raise UsageError(
            "uv.lock has no project beside it", where=f"service/{UV}", next="put its pyproject.toml into service/"
        )
    if not there and project is None:
        return None
    if wanted != DEPENDENCIES:
        _require_some_to_choose(project, there, wanted)
    return _described(folder, there, project, wanted)


def normalized(wanted: Dependencies) -> Dependencies:
    """Return the names as PEP 503 normalizes them."""
    return Dependencies(*(tuple(sorted({str(canonicalize_name(name)) for name in names})) for names in wanted))


def _require_some_to_choose(project: Project | None, there: list[str], wanted: Dependencies) -> None:
    if there == [PYLOCK]:
        return
    if project is None:
        raise UsageError(
            "requirements.in has no extras and no groups",
            where="service/service.yaml (dependencies)",
            next="remove `dependencies`, or define them in service/pyproject.toml",
        )
    pyproject.check(project, wanted)


def _described(folder: Path, there: list[str], project: Project | None, wanted: Dependencies) -> Source:
    beside = [pyproject.NAME] if project and there != [PYLOCK] else []
    files = (*there, *beside)
    seals = [_seal_of(folder / name) for name in there] + [project.seal for _ in beside if project]
    if wanted != DEPENDENCIES:
        seals.append(repr(wanted))
    # The seal of one file alone is the digest of that file, without a further digest.
    seal = seals[0] if len(seals) == 1 else hashlib.sha256("\n".join(seals).encode()).hexdigest()
    name = there[0] if there in ([UV], [PYLOCK]) else " and ".join(files)
    edit = {UV: "pyproject.toml by `uv add`", PYLOCK: PYLOCK}.get(files[0], files[0])
    return Source(name, files, project, f"service/{edit}", seal)


def _seal_of(path: Path) -> str:
    """Return the digest over a file and, for requirements.in, those that it includes; line endings do not count."""
    seal = hashlib.sha256()
    if path.name == REQUIREMENTS:
        for _, data in requirement_lines.files(path):
            seal.update(hashlib.sha256(data).digest())
    else:
        seal.update(requirement_lines.content(path).replace(b"\r\n", b"\n"))
    return seal.hexdigest()
