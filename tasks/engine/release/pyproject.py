"""Read service/pyproject.toml: the requirements, extras and groups of a project, and whether it is a package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from packaging.utils import canonicalize_name

from tasks.engine.config.sections import Dependencies
from tasks.engine.errors import UsageError
from tasks.engine.release import requirement_lines, toml_text

NAME = "pyproject.toml"
_LOCKED = ("name", "requires-python", "dependencies", "optional-dependencies", "dynamic")
"""Keys of `project` on which a lock depends."""


class Project(NamedTuple):
    """A project. python: the versions of Python that it requires, or None

    extras, groups: their names, as they are written; extras are None if the build backend makes them
    packaged: its build makes a wheel
    seal: digest of all that a lock depends on
    """

    python: str | None
    extras: tuple[str, ...] | None
    groups: tuple[str, ...]
    packaged: bool
    seal: str


def read(folder: Path) -> Project | None:
    """Return the project of a directory; None if it has no pyproject.toml, or one for other tools alone."""
    path = folder / NAME
    if not path.exists():
        return None
    data = parse(path)
    project, tools = _table(data, "project"), _table(data, "tool")
    # As for uv: a project without a build system is no package, unless it says so.
    chosen = _table(tools, "uv").get("package")
    packaged = chosen if isinstance(chosen, bool) else "build-system" in data
    if not project and not packaged:
        return None
    dynamic = project.get("dynamic", ()) if project else ("dependencies", "optional-dependencies")
    python = project.get("requires-python")
    return Project(
        python if isinstance(python, str) else None,
        None if "optional-dependencies" in dynamic else tuple(_table(project, "optional-dependencies")),
        tuple(_table(data, "dependency-groups")),
        packaged,
        _seal(folder, data, whole="dependencies" in dynamic or "optional-dependencies" in dynamic),
    )


def parse(path: Path) -> dict[str, Any]:
    """Parse a TOML file; UsageError if it is not TOML."""
    try:
        return toml_text.parse(requirement_lines.content(path).decode())
    except ValueError as error:
        message = f"it cannot be read as TOML: {error}"
        raise UsageError(message, where=requirement_lines.place(path), next="correct it") from None


def require_known(wanted: Iterable[str], known: Iterable[str], key: str, file: str) -> None:
    """Raise UsageError for an extra or a group of service.yaml that `file` does not define. key: extras or groups."""
    names: dict[str, str] = {canonicalize_name(name): name for name in known}
    for name in wanted:
        if name not in names:
            close = get_close_matches(name, list(names), n=1)
            listed = ", ".join(sorted(names.values())) or "none"
            raise UsageError(
                f"{file} defines no {key.removesuffix('s')} {name}; it has {listed}",
                where=f"service/service.yaml (dependencies.{key})",
                next=f"did you mean {names[close[0]]}?" if close else f"define it in service/{file}, or remove it here",
            )


def check(project: Project, wanted: Dependencies) -> None:
    """Raise UsageError for an extra or a group that the project does not define."""
    if project.extras is not None:
        require_known(wanted.extras, project.extras, "extras", NAME)
    require_known(wanted.groups, project.groups, "groups", NAME)


def _table(data: dict[str, Any], key: str) -> dict[str, Any]:
    found = data.get(key)
    return found if isinstance(found, dict) else {}


def _seal(folder: Path, data: dict[str, Any], *, whole: bool) -> str:
    """Return a digest of what a lock depends on. whole: a build backend reads it, so all of the files counts."""
    project = {key: value for key, value in _table(data, "project").items() if key in _LOCKED}
    chosen = [project, data.get("dependency-groups"), _table(data, "tool").get("uv")]
    seal = hashlib.sha256(json.dumps(chosen, sort_keys=True, default=str).encode())
    for name in (NAME, "setup.cfg", "setup.py") if whole else ():
        if (folder / name).exists():
            seal.update(hashlib.sha256(requirement_lines.content(folder / name).replace(b"\r\n", b"\n")).digest())
    return seal.hexdigest()
