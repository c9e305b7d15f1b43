"""Takes typed values out of a tree of YAML; what does not fit is a UsageError with place, finding, expectation and fix.

One rule for nothing: an explicit `null` is as if the key were not there (so an override can remove it), while a key
with nothing after it is refused, because it is more often an accident.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection
from typing import NamedTuple, TypeVar

from tasks.engine.config.nodes import FRACTION, HIDDEN, Mapping, Node, Place, Scalar, Sequence
from tasks.engine.errors import UsageError

TEXT_LIMIT = 8192

T = TypeVar("T")

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,8}")
_KINDS = {"null": "nothing", "int": "a number", "float": "a number", "timestamp": "a date"}


class Shape(NamedTuple):
    """What a text must look like. expected: a noun with its article; example: one that fits; options: all that fit."""

    expected: str
    example: str
    fits: Callable[[str], bool]
    options: tuple[str, ...] = ()


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


def mapping(node: Node) -> Mapping:
    """The node, which must be a mapping."""
    if not isinstance(node, Mapping):
        raise refuse(node, f"expected a mapping of keys to values, found {found(node)}", "write `key: value` lines")
    return node


def keys(node: Node, allowed: Collection[str]) -> dict[str, Node]:
    """The values of a mapping that knows only these keys, without those that are null."""
    given = mapping(node)
    for key in given.entries:
        if key not in allowed:
            meant = nearest(key, allowed)
            known = ", ".join(allowed)
            fix = f"did you mean '{meant}'?" if meant else f"remove it; known here: {known}"
            raise refuse(given.keys[key], f"unknown key {quoted(key)}; known here: {known}", fix)
    return entries(node)


def entries(node: Node) -> dict[str, Node]:
    """The values of a mapping with keys of the user's choice, without those that are null."""
    given = mapping(node)
    for key, value in given.entries.items():
        if isinstance(value, Scalar) and value.kind == "null" and not value.text:
            raise refuse(value, f"{quoted(key)} has no value", "write one, or `null` to do without, or delete the key")
    return {key: value for key, value in given.entries.items() if not is_null(value)}


def sections(node: Node, allowed: Collection[str]) -> dict[str, Node]:
    """As keys(), for the top of a file, where a section whose lines are all commented out is as good as none."""
    given = mapping(node)
    filled = {key: value for key, value in given.entries.items() if key not in allowed or not is_null(value)}
    return keys(Mapping(given.place, filled, given.keys), allowed)


def named(node: Node) -> list[tuple[str, Node, Place]]:
    """The entries of a mapping with keys of the user's choice, null or not, each with the place of its key."""
    given = mapping(node)
    return [(key, value, given.keys[key]) for key, value in given.entries.items()]


def required(node: Node, fields: dict[str, Node], key: str, example: str) -> Node:
    """The value of a key that must be there."""
    if key not in fields:
        path = f"{node.place.path}.{key}" if node.place.path else key
        raise refuse(node.place._replace(path=path), f"{key} is missing", f"add `{key}: {example}`")
    return fields[key]


def optional(fields: dict[str, Node], key: str, read: Callable[[Node], T], default: T) -> T:
    """What `read` makes of the value, or the default where there is none."""
    return read(fields[key]) if key in fields else default


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
    if bad := HIDDEN.search(node.text) or re.search("[\t\n]", node.text):
        raise refuse(node, f"a control character is in the text: U+{ord(bad[0]):04X}", "write one line of text")
    if len(node.text) > TEXT_LIMIT or not (node.text or empty):
        raise refuse(node, f"expected {expected}, found {len(node.text)} characters", _like(node, shape))
    if shape and not shape.fits(node.text):
        raise refuse(node, f"expected {expected}, found {quoted(node.text)}", _like(node, shape))
    return node.text


def choice(node: Node, options: tuple[str, ...]) -> str:
    """One of these words."""
    return text(node, Shape(f"one of {', '.join(options)}", options[0], options.__contains__, options))


def integer(node: Node, low: int, high: int) -> int:
    """A whole number in plain decimal, from low to high."""
    return int(_number(node, low, high, f"a whole number from {low} to {high}", _DECIMAL))


def number(node: Node, low: int, high: int) -> float:
    """A number in plain decimal, fractions allowed, from low to high."""
    return float(_number(node, low, high, f"a number from {low} to {high}", FRACTION))


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
    if shape is None:
        return f'write {_name(node)}: "text"'
    if isinstance(node, Scalar) and (meant := nearest(node.text, shape.options)):
        return f"did you mean '{meant}'?"
    return f"write it like {_name(node)}: {quoted(shape.example)}"


def _name(node: Node) -> str:
    return node.place.path.rpartition(".")[2] or "it"
