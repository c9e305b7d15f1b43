"""Read the parts that there are, from `templates/parts`.

A part is a folder: `part.yaml`, README.md, and files that lie in `service/` as they lie here.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tasks.engine import plain_file
from tasks.engine.config import schema, yaml_reader
from tasks.engine.errors import UsageError

_ABOUT_ITSELF = ("part.yaml", "README.md")


class Part(NamedTuple):
    """A part. about, when, next: what it is, who needs it, what to try first; files: path below service/ to content."""

    name: str
    about: str
    when: str
    requirements: tuple[str, ...]
    next: str
    files: dict[str, bytes]


def names(root: Path) -> tuple[str, ...]:
    """Return the names of all parts, sorted."""
    return tuple(sorted(path.parent.name for path in (root / "templates/parts").glob("*/part.yaml")))


def load(root: Path, name: str) -> Part:
    """Read a part; UsageError if there is none of this name."""
    known = names(root)
    if name not in known:
        meant = schema.nearest(name, known)
        way = f"did you mean {meant}?" if meant else "fab add lists them"
        raise UsageError(f"there is no part {schema.quoted(name)}", where="add", next=way)
    folder = root / "templates/parts" / name
    document = yaml_reader.read(folder / "part.yaml", missing="git checkout templates")
    fields = schema.keys(document.root, ("about", "when", "requirements", "next"))
    texts = (schema.text(schema.required(document.root, fields, key, "...")) for key in ("about", "when", "next"))
    about, when, after = texts
    given = schema.items(fields["requirements"]) if "requirements" in fields else ()
    return Part(name, about, when, tuple(map(schema.text, given)), after, _files(folder))


def _files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    below = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: plain_file.read(path) for name, path in below.items() if name not in _ABOUT_ITSELF}
