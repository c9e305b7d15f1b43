"""Find what the wheel of the service's own project lacks, such as templates that its build was not told of. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tasks.engine.release.archive import Entry

_SHOWN = 5


def lacking(code: Sequence[Entry], site: Sequence[Entry]) -> tuple[str, ...]:
    """Return the files of the project's packages that the code has and the site lacks; none of Python or hidden."""
    folders = packages(code, site)
    there = {entry.path for entry in site}
    found = []
    for entry in code:
        for prefix, top in folders:
            inside = entry.path.removeprefix(prefix)
            if entry.path.startswith(f"{prefix}{top}/") and inside not in there and _is_data(entry.source.name):
                found.append(entry.path)
    return tuple(sorted({*found}))


def sentence(paths: Sequence[str]) -> str:
    """Return what an operator is told of them, in one line; nothing if there are none."""
    if not paths:
        return ""
    folders = Counter(path.rpartition("/")[0] for path in paths)
    named = [f"{folder}/ ({number} file{'s' if number > 1 else ''})" for folder, number in sorted(folders.items())]
    more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return (
        f"the wheel of the project lacks files of its packages: {', '.join(named[:_SHOWN])}{more}; "
        "declare them as package data in pyproject.toml, or in MANIFEST.in (setuptools-scm would ask git, "
        "which the build has not)"
    )


def packages(code: Sequence[Entry], site: Sequence[Entry]) -> set[tuple[str, str]]:
    """Return the packages whose modules code and site both have: the path above each in the code, and its name."""
    known = {(entry.path, entry.sha256) for entry in site if "/" in entry.path and entry.path.endswith(".py")}
    found = set()
    for entry in code:
        parts = entry.path.split("/")
        for depth in range(len(parts) - 1):
            if ("/".join(parts[depth:]), entry.sha256) in known:
                found.add(("".join(f"{part}/" for part in parts[:depth]), parts[depth]))
    return found


def _is_data(name: str) -> bool:
    return not name.startswith(".") and not name.endswith((".py", ".pyi", ".pyx", ".c", ".h"))
