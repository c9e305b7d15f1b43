"""Read typed values from a YAML tree; a bad value raises UsageError with its place, the expectation and the fix.

An explicit `null` counts as an absent key, so an override can remove a key. A key with nothing after it is refused,
because it is more often an accident.
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
    """The form of a text. expected: a noun with its article; example: one that fits; options: all that fit, or ()."""

    expected: str
    example: str
    fits: Callable[[str], bool]
    options: tuple[str, ...] = ()


def refuse(node: Node | Place, message: str, fix: str) -> UsageError:
    """Return the UsageError for this place."""
    place = node if isinstance(node, Place) else node.place
    return UsageError(message, where=str(place), next=fix)


def nearest(word: str, choices: Collection[str]) -> str | None:
    """Return the choice that the user probably meant."""
    matches = difflib.get_close_matches(word, list(choices), n=1)
    return matches[0] if matches else None


def is_null(node: Node) -> bool:
    """Return True for a null in any spelling."""
    return isinstance(node, Scalar) and node.kind == "null"


def mapping(node: Node) -> Mapping:
    """Return the node, which must be a mapping."""
    if not isinstance(node, Mapping):
        raise refuse(node, f"expected a mapping of keys to values, found {describe(node)}", "write `key: value` lines")
    return node


def keys(node: Node, allowed: Collection[str]) -> dict[str, Node]:
    """Return the values of a mapping that may have only these keys, without nulls."""
    given = mapping(node)
    for key in given.entries:
        if key not in allowed:
            meant = nearest(key, allowed)
            known = ", ".join(allowed)
            fix = f"did you mean '{meant}'?" if meant else f"remove it; known here: {known}"
            raise refuse(given.keys[key], f"unknown key {quoted(key)}; known here: {known}", fix)
    return entries(node)


def entries(node: Node) -> dict[str, Node]:
    """Return the values of a mapping with keys of the user's choice, without nulls."""
    given = mapping(node)
    for key, value in given.entries.items():
        if isinstance(value, Scalar) and value.kind == "null" and not value.text:
            raise refuse(value, f"{quoted(key)} has no value", "write one, or `null` to do without, or delete the key")
    return {key: value for key, value in given.entries.items() if not is_null(value)}


def sections(node: Node, allowed: Collection[str]) -> dict[str, Node]:
    """Read the top of a file like keys(), but treat a section whose lines are all commented out as absent."""
    given = mapping(node)
    filled = {key: value for key, value in given.entries.items() if key not in allowed or not is_null(value)}
    return keys(Mapping(given.place, filled, given.keys), allowed)


def named(node: Node) -> list[tuple[str, Node, Place]]:
    """Return the entries of a mapping with keys of the user's choice, null or not, each with the place of its key."""
    given = mapping(node)
    return [(key, value, given.keys[key]) for key, value in given.entries.items()]


def required(node: Node, fields: dict[str, Node], key: str, example: str) -> Node:
    """Return the value of a key that must be there."""
    if key not in fields:
        path = f"{node.place.path}.{key}" if node.place.path else key
        raise refuse(node.place._replace(path=path), f"{key} is missing", f"add `{key}: {example}`")
    return fields[key]


def optional(fields: dict[str, Node], key: str, read: Callable[[Node], T], default: T) -> T:
    """Read the value with `read`, or return the default if the key is absent."""
    return read(fields[key]) if key in fields else default


def items(node: Node) -> tuple[Node, ...]:
    """Return the values of a list."""
    if not isinstance(node, Sequence):
        raise refuse(node, f"expected a list, found {describe(node)}", f"write {_name(node)}: [first, second]")
    return node.items


def text(node: Node, shape: Shape | None = None, *, empty: bool = False, lines: bool = False) -> str:
    """Return a text without control characters, of the given shape. lines: it may have several, and tabs."""
    expected = shape.expected if shape else "a text"
    if not isinstance(node, Scalar):
        raise refuse(node, f"expected {expected}, found {describe(node)}", _like(node, shape))
    if node.kind != "str":
        raise refuse(node, f"expected {expected}, but {_reading(node)}", _mend(node, shape))
    if bad := HIDDEN.search(node.text) or (not lines and re.search("[\t\n]", node.text)):
        fix = "remove it" if lines else "write one line of text"
        raise refuse(node, f"a control character is in the text: U+{ord(bad[0]):04X}", fix)
    if len(node.text) > TEXT_LIMIT or not (node.text or empty):
        raise refuse(node, f"expected {expected}, found {len(node.text)} characters", _like(node, shape))
    if shape and not shape.fits(node.text):
        raise refuse(node, f"expected {expected}, found {quoted(node.text)}", _like(node, shape))
    return node.text


def choice(node: Node, options: tuple[str, ...]) -> str:
    """Return the text, which must be one of the options."""
    return text(node, Shape(f"one of {', '.join(options)}", options[0], options.__contains__, options))


def boolean(node: Node) -> bool:
    """Return a truth value, written as true or false: YAML has ten more ways, which people read as text."""
    if not isinstance(node, Scalar) or node.kind != "bool" or node.text not in {"true", "false"}:
        raise refuse(node, f"expected true or false, found {describe(node)}", f"write {_name(node)}: true, or false")
    return node.text == "true"


def integer(node: Node, low: int, high: int) -> int:
    """Return a whole number in plain decimal, from low to high."""
    return int(_number(node, low, high, f"a whole number from {low} to {high}", _DECIMAL))


def number(node: Node, low: int, high: int) -> float:
    """Return a number in plain decimal, fractions allowed, from low to high."""
    return float(_number(node, low, high, f"a number from {low} to {high}", FRACTION))


def describe(node: Node) -> str:
    """Describe a value in few words, for an error message."""
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    return "nothing" if node.kind == "null" else quoted(node.text)


def quoted(value: str) -> str:
    """Return the value between double quotes, escaped and cut for an error message."""
    return json.dumps(value if len(value) <= 60 else value[:59] + "…", ensure_ascii=not value.isprintable())


def _number(node: Node, low: int, high: int, expected: str, shape: re.Pattern[str]) -> str:
    fix = f"write {_name(node)}: {low}, or another up to {high}"
    if not isinstance(node, Scalar):
        raise refuse(node, f"expected {expected}, found {describe(node)}", fix)
    if node.kind == "str" and shape.fullmatch(node.text):
        raise refuse(node, f"expected {expected}, found a text: {quoted(node.text)}", f"remove the quotes: {node.text}")
    if node.kind not in ("int", "float") or not shape.fullmatch(node.text):
        raise refuse(node, f"expected {expected} in plain decimal, found {describe(node)}", fix)
    if not low <= float(node.text) <= high:
        raise refuse(node, f"expected {expected}, found {node.text}", fix)
    return node.text


def _reading(node: Scalar) -> str:
    """Explain how YAML reads a word that the user meant as text."""
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
