"""Add keys and values to service.yaml as text: comments and order stay. A shape that is not known is refused. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tasks.engine.config import nodes, yaml_reader
from tasks.engine.config.nodes import Mapping, Node, Place, Scalar
from tasks.engine.errors import UsageError

FILE = "service/service.yaml"

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")

_FIRST = Place(FILE, 1, 1, "")


class _Missing(NamedTuple):
    """A value that service.yaml lacks. into: the mapping or list that takes it; key: its key in a mapping."""

    into: Node
    path: tuple[str, ...]
    key: str | None
    value: Node


def add(text: str, wanted: Mapping, name: str) -> str:
    """Return service.yaml with these values, in place or below what is there; as it is if it has them.

    A list or mapping is extended. Another value that is there already stays: UsageError, with the lines to write.
    """
    while True:
        root = _parse(text)
        missing = next(_missing(root, wanted, (), (wanted, name)), None)
        if missing is None:
            return text
        expected = _with(nodes.plain(root), missing)
        for changed in _changes(text, missing, name):
            if _reads_as(changed, expected):
                text = changed
                break
        else:
            raise _refuse(missing.into, "its shape is not known", (wanted, name))


def _parse(text: str) -> Node:
    return yaml_reader.parse(text.encode(), FILE)


def _reads_as(text: str, expected: object) -> bool:
    try:
        return nodes.plain(_parse(text)) == expected
    except UsageError:
        return False


def _missing(there: Node, wanted: Node, path: tuple[str, ...], whole: tuple[Mapping, str]) -> Iterator[_Missing]:
    if isinstance(there, Mapping) and isinstance(wanted, Mapping):
        for key, value in wanted.entries.items():
            if key in there.entries:
                yield from _missing(there.entries[key], value, (*path, key), whole)
            else:
                yield _Missing(there, path, key, value)
    elif isinstance(there, nodes.Sequence) and isinstance(wanted, nodes.Sequence):
        known = [nodes.plain(item) for item in there.items]
        yield from (_Missing(there, path, None, item) for item in wanted.items if nodes.plain(item) not in known)
    elif not _has(there, wanted, path):
        raise _refuse(there, "another value is there", whole)


def _has(there: Node, wanted: Node, path: tuple[str, ...]) -> bool:
    """Return True for an equal value, and for a hook that runs the wanted command among others."""
    if path[:1] == ("hooks",) and isinstance(there, Scalar) and isinstance(wanted, Scalar):
        return wanted.text in there.text
    return nodes.plain(there) == nodes.plain(wanted)


def _with(data: Any, missing: _Missing) -> object:
    """Return the plain data of the file with the value."""
    into = data
    for key in missing.path:
        into = into[key]
    if missing.key is None:
        into.append(nodes.plain(missing.value))
    else:
        into[missing.key] = nodes.plain(missing.value)
    return data


def _changes(text: str, missing: _Missing, name: str) -> Iterator[str]:
    """Yield the texts that may have the value in its place. The caller reads each, so a wrong one does no harm."""
    lines = text.split("\n")
    place = missing.into.place
    row, column = place.line - 1, place.column - 1
    flow = f"{missing.key}: {_flow(missing.value)}" if missing.key else _flow(missing.value)
    opening = lines[row][column : column + 1]
    if opening in ("{", "["):
        line = lines[row]
        comma = ", " if _places(missing.into) else ""
        closing = "}" if opening == "{" else "]"
        for at in (at for at in range(column, len(line)) if line[at] == closing):
            yield "\n".join([*lines[:row], f"{line[:at]}{comma}{flow}{line[at:]}", *lines[row + 1 :]])
        return
    mark = "" if missing.key else "- "
    end = "\r" if "\r\n" in text else ""
    added = f"{' ' * column}{mark}{flow}  # of the part {name}{end}"
    if missing.path:
        after = _last_row(lines, missing.into, column) + 1
        yield "\n".join([*lines[:after], added, *lines[after:]])
    else:
        body = text if text.endswith("\n") else f"{text}{end}\n"
        yield f"{body}{added}\n"


def _last_row(lines: Sequence[str], block: Node, column: int) -> int:
    """Return the row in which a mapping or list in lines of its own ends, without comments and blank lines after it."""
    last = max(place.line for place in _places(block)) - 1
    for row in range(last + 1, len(lines)):
        line = lines[row].strip()
        indent = len(lines[row]) - len(lines[row].lstrip())
        deeper = indent > column or (isinstance(block, Mapping) and indent == column and line.startswith("-"))
        if line and deeper:
            last = row
        elif line and not line.startswith("#"):
            break
    return last


def _places(into: Node) -> list[Place]:
    """Return the places of the keys, or of the items."""
    if isinstance(into, Mapping):
        return list(into.keys.values())
    return [item.place for item in into.items] if isinstance(into, nodes.Sequence) else []


def _flow(value: Node) -> str:
    """Return the value in one line."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_flow(below)}' for key, below in value.entries.items())}}}"
    if isinstance(value, nodes.Sequence):
        return f"[{', '.join(map(_flow, value.items))}]"
    plain = value.kind != "str" or (_WORD.fullmatch(value.text) and _parse(value.text) == value._replace(place=_FIRST))
    return value.text if plain else json.dumps(value.text)


def _refuse(there: Node, reason: str, whole: tuple[Mapping, str]) -> UsageError:
    wanted, name = whole
    return UsageError(
        f"what the part {name} needs cannot be added here: {reason}",
        where=str(there.place),
        next=f"write these lines by hand, joined with what is there, then: fab add {name}",
        detail=tuple(_lines(wanted)),
    )


def _lines(wanted: Mapping) -> Iterator[str]:
    for key, value in wanted.entries.items():
        if isinstance(value, Mapping):
            yield f"{key}:"
            yield from (f"  {below}: {_flow(node)}" for below, node in value.entries.items())
        else:
            yield f"{key}: {_flow(value)}"
