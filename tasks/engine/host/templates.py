"""Fill in the texts below `templates/`: `{{name}}` stands for a value, and nothing else is special."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[3] / "templates"
_PLACE = re.compile(r"\{\{([a-z0-9_]+)\}\}")


@cache
def text(name: str) -> str:
    """Return the template of this name (a path below `templates/`), not filled in."""
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def modules(folder: str) -> tuple[str, ...]:
    """Return the names of the Python modules in a folder of `templates/`, without the loader."""
    return tuple(sorted(path.stem for path in (FOLDER / folder).glob("*.py") if path.stem != "loader"))


def fill(template: str, /, **values: str) -> str:
    """Return the template with each place filled in; KeyError if a place has no value."""
    return _PLACE.sub(lambda place: values[place[1]], text(template))
