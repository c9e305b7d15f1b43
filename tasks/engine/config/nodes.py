"""The values of a configuration file as data: as written, each with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingView
from typing import NamedTuple, TypeAlias

# C0 but tab and line feed, DEL, C1, line separators, bidi controls, byte order mark, surrogates: with any of these, an
# editor or a terminal does not show the text as it is.
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f]|[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)

# Numbers as a person writes them: no octal, no base 60, no exponent, no underscores.
FRACTION = re.compile(r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?")


class Place(NamedTuple):
    """The place of a value: file as messages show it, line and column from 1, path of keys (`hosts.shire01.port`)."""

    file: str
    line: int
    column: int
    path: str

    def __str__(self) -> str:
        spot = f"{self.file}:{self.line}:{self.column}"
        return f"{spot} ({self.path})" if self.path else spot


class Scalar(NamedTuple):
    """One value as written. kind: its type in YAML (str, null, bool, int, float, timestamp, merge, value)."""

    place: Place
    text: str
    kind: str


class Sequence(NamedTuple):
    """A list, in the order of the file."""

    place: Place
    items: tuple[Node, ...]


class Mapping(NamedTuple):
    """Keys and values in the order of the file. keys: the place of each key."""

    place: Place
    entries: MappingView[str, Node]
    keys: MappingView[str, Place]


Node: TypeAlias = Scalar | Sequence | Mapping


def merge(lower: Node, upper: Node) -> Node:
    """Merge mappings key by key; of anything else, take `upper`. Each value keeps its place."""
    if not (isinstance(lower, Mapping) and isinstance(upper, Mapping)):
        return upper
    merged = dict(lower.entries)
    for key, value in upper.entries.items():
        merged[key] = merge(merged[key], value) if key in merged else value
    return Mapping(lower.place, merged, {**lower.keys, **upper.keys})


def plain(node: Node) -> object:
    """Return the node as data for JSON: text, numbers, null, lists, and mappings sorted by key."""
    if isinstance(node, Mapping):
        return {key: plain(value) for key, value in sorted(node.entries.items())}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    if node.kind == "null":
        return None
    if node.kind in ("int", "float") and FRACTION.fullmatch(node.text):
        return float(node.text) if "." in node.text else int(node.text)
    return node.text
