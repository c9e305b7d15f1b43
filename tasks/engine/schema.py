"""Takes typed values out of a tree of YAML; what does not fit is a UsageError with place, finding, expectation and fix.

One rule for nothing: an explicit `null` is as if the key were not there (so an override can remove it), while a key
with nothing after it is refused, because it is more often an accident.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from tasks.engine.errors import UsageError
from tasks.engine.yamlfile import HIDDEN, Mapping, Node, Place, Scalar, Sequence

TEXT_LIMIT = 8192

_CONTROL = re.compile("[\t\n\ud800-\udfff]")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,8}")
_FRACTION = re.compile(r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?")
_KINDS = {"null": "nothing", "int": "a number", "float": "a number", "timestamp": "a date"}


@dataclass(frozen=True)
class Shape:
    """What a text must look like. expected: a noun with its article; example: a value that fits."""

    expected: str
    example: str
    fits: Callable[[str], bool]


def refuse(node: Node | Place, message: str, fix: str) -> UsageError:
    """The error of this place."""
    place = node if isinstance(node, Place) else node.place
    return UsageError(message, where=str(place), next=fix)


def nearest(word: str, choices: Collection[str]) -> str | None:
    """The choice that was probably meant."""
    matches = difflib.get_close_matches(word, list(choices), n=1)
    return matches[0] if matches else None


def is_null(node: Node) -> bool:
    """Whether the node says that there is nothing, in whichever spelling."""
    return isinstance(node, Scalar) and node.kind == "null"


def keys(node: Node, allowed: Collection[str]) -> dict[str, Node]:
    """The values of a mapping that knows only these keys, without those that are null."""
    mapping = _mapping(node)
    for key in mapping.entries:
        if key not in allowed:
            meant = nearest(key, allowed)
            known = ", ".join(allowed)
            fix = f"did you mean '{meant}'?" if meant else f"remove it; known here: {known}"
            raise refuse(mapping.keys[key], f"unknown key {quoted(key)}; known here: {known}", fix)
    return entries(node)


def entries(node: Node) -> dict[str, Node]:
    """The values of a mapping with keys of the user's choice, without those that are null."""
    mapping = _mapping(node)
    for key, value in mapping.entries.items():
        if isinstance(value, Scalar) and value.kind == "null" and not value.text:
            raise refuse(value, f"{quoted(key)} has no value", "write one, or `null` to do without, or delete the key")
    return {key: value for key, value in mapping.entries.items() if not is_null(value)}


def sections(node: Node, allowed: Collection[str]) -> dict[str, Node]:
    """As keys(), for the top of a file, where a section whose lines are all commented out is as good as none."""
    mapping = _mapping(node)
    filled = {key: value for key, value in mapping.entries.items() if key not in allowed or not is_null(value)}
    return keys(Mapping(mapping.place, filled, mapping.keys), allowed)


def named(node: Node) -> list[tuple[str, Node, Place]]:
    """The entries of a mapping with keys of the user's choice, null or not, each with the place of its key."""
    mapping = _mapping(node)
    return [(key, value, mapping.keys[key]) for key, value in mapping.entries.items()]


def required(node: Node, fields: dict[str, Node], key: str, example: str) -> Node:
    """The value of a key that must be there."""
    if key not in fields:
        path = f"{node.place.path}.{key}" if node.place.path else key
        raise refuse(replace(node.place, path=path), f"{key} is missing", f"add `{key}: {example}`")
    return fields[key]


def items(node: Node) -> tuple[Node, ...]:
    """The values of a list."""
    if not isinstance(node, Sequence):
        raise refuse(node, f"expected a list, found {found(node)}", f"write {_name(node)}: [first, second]")
    return node.items


def text(node: Node, shape: Shape | None = None, *, empty: bool = False) -> str:
    """A text of one line without control characters, of the given shape."""
    expected = shape.expected if shape else "a text"
    if not isinstance(node, Scalar):
        raise refuse(node, f"expected {expected}, found {found(node)}", _like(node, shape))
    if node.kind != "str":
        raise refuse(node, f"expected {expected}, but {_reading(node)}", _mend(node, shape))
    if bad := HIDDEN.search(node.text) or _CONTROL.search(node.text):
        raise refuse(node, f"a control character is in the text: U+{ord(bad[0]):04X}", "write one line of text")
    if len(node.text) > TEXT_LIMIT or not (node.text or empty):
        raise refuse(node, f"expected {expected}, found {len(node.text)} characters", _like(node, shape))
    if shape and not shape.fits(node.text):
        raise refuse(node, f"expected {expected}, found {quoted(node.text)}", _like(node, shape))
    return node.text


def choice(node: Node, options: Collection[str]) -> str:
    """One of these words."""
    word = text(node, Shape(f"one of {', '.join(options)}", next(iter(options)), lambda _: True))
    if word not in options:
        meant = nearest(word, options)
        fix = f"did you mean '{meant}'?" if meant else f"write one of {', '.join(options)}"
        raise refuse(node, f"expected one of {', '.join(options)}, found {quoted(word)}", fix)
    return word


def integer(node: Node, low: int, high: int) -> int:
    """A whole number in plain decimal, from low to high."""
    return int(_number(node, low, high, f"a whole number from {low} to {high}", _DECIMAL))


def number(node: Node, low: int, high: int) -> float:
    """A number in plain decimal, fractions allowed, from low to high."""
    return float(_number(node, low, high, f"a number from {low} to {high}", _FRACTION))


def merge(lower: Node, upper: Node) -> Node:
    """Both as one, the upper winning: mappings merge key by key, anything else replaces; each value keeps its place."""
    if not (isinstance(lower, Mapping) and isinstance(upper, Mapping)):
        return upper
    merged = dict(lower.entries)
    for key, value in upper.entries.items():
        merged[key] = merge(merged[key], value) if key in merged else value
    return Mapping(lower.place, merged, {**lower.keys, **upper.keys})


def plain(node: Node) -> object:
    """The node as data for JSON: text, numbers, null, lists and mappings."""
    if isinstance(node, Mapping):
        return {key: plain(value) for key, value in node.entries.items()}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    if node.kind == "null":
        return None
    if node.kind in ("int", "float") and _FRACTION.fullmatch(node.text):
        return float(node.text) if "." in node.text else int(node.text)
    return node.text


def found(node: Node) -> str:
    """What stands there, in words short enough for an error."""
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    return "nothing" if node.kind == "null" else quoted(node.text)


def quoted(value: str) -> str:
    """The value between double quotes, escaped and cut for an error message."""
    return json.dumps(value if len(value) <= 60 else value[:59] + "…", ensure_ascii=not value.isprintable())


def _mapping(node: Node) -> Mapping:
    if not isinstance(node, Mapping):
        raise refuse(node, f"expected a mapping of keys to values, found {found(node)}", "write `key: value` lines")
    return node


def _number(node: Node, low: int, high: int, expected: str, shape: re.Pattern[str]) -> str:
    fix = f"write {_name(node)}: {low}, or another up to {high}"
    if not isinstance(node, Scalar):
        raise refuse(node, f"expected {expected}, found {found(node)}", fix)
    if node.kind == "str" and shape.fullmatch(node.text):
        raise refuse(node, f"expected {expected}, found a text: {quoted(node.text)}", f"remove the quotes: {node.text}")
    if node.kind not in ("int", "float") or not shape.fullmatch(node.text):
        raise refuse(node, f"expected {expected} in plain decimal, found {found(node)}", fix)
    if not low <= float(node.text) <= high:
        raise refuse(node, f"expected {expected}, found {node.text}", fix)
    return node.text


def _reading(node: Scalar) -> str:
    """What YAML makes of a word that a person takes for text."""
    if node.kind == "null":
        return f"YAML reads {node.text} as nothing" if node.text else "there is nothing here"
    if node.kind == "bool":
        return f"YAML reads {node.text} as {'true' if node.text.lower() in ('y', 'yes', 'on', 'true') else 'false'}"
    return f"YAML reads {quoted(node.text)[1:-1]} as {_KINDS.get(node.kind, 'something else')}"


def _mend(node: Scalar, shape: Shape | None) -> str:
    if shape and not shape.fits(node.text):
        return _like(node, shape)
    return f"quote it: {_name(node)}: {quoted(node.text)}" if node.text else _like(node, shape)


def _like(node: Node, shape: Shape | None) -> str:
    return f"write it like {_name(node)}: {quoted(shape.example)}" if shape else f'write {_name(node)}: "text"'


def _name(node: Node) -> str:
    return node.place.path.rpartition(".")[2] or "it"
