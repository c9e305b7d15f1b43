"""Read the parts that there are, from `templates/parts`.

A part is a folder: `part.yaml`, README.md, and files that lie in `service/` as they lie here.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tasks.engine import plain_file
from tasks.engine.config import schema, yaml_reader
from tasks.engine.config.nodes import Mapping, Node
from tasks.engine.errors import UsageError

_TEXTS = ("about", "when", "next")
_ABOUT_ITSELF = ("part.yaml", "README.md")


class Part(NamedTuple):
    """A part of the service.

    about, when, next: what it is, who needs it, what to try first
    requires: other parts; requirements: lines of requirements.in; service: keys and values of service.yaml
    files: path below service/ to content
    """

    name: str
    about: str
    when: str
    next: str
    requires: tuple[str, ...]
    requirements: tuple[str, ...]
    service: Mapping | None
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
    fields = schema.keys(document.root, (*_TEXTS, "requires", "requirements", "service"))
    about, when, after = (schema.text(schema.required(document.root, fields, key, "...")) for key in _TEXTS)
    requires, requirements = (_texts(fields[key]) if key in fields else () for key in ("requires", "requirements"))
    service = schema.mapping(fields["service"]) if "service" in fields else None
    return Part(name, about, when, after, requires, requirements, service, _files(folder))


def with_required(root: Path, name: str) -> tuple[Part, ...]:
    """Read a part and all that it requires, each after those that it requires itself; the part is the last."""
    found: dict[str, Part] = {}

    def visit(name: str) -> None:
        part = load(root, name)
        for required in part.requires:
            visit(required)
        found.setdefault(name, part)

    visit(name)
    return tuple(found.values())


def _texts(node: Node) -> tuple[str, ...]:
    return tuple(map(schema.text, schema.items(node)))


def _files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    below = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: plain_file.read(path) for name, path in below.items() if name not in _ABOUT_ITSELF}
