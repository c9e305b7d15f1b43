"""The keys that a file may have: each with its reader, its default, and what docs/REFERENCE.md says of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from tasks.engine.config import schema
from tasks.engine.config.nodes import Node
from tasks.engine.config.schema import Shape

DEPLOY, SETUP, RUN = "a deploy", "setup", "the next run"
"""What applies a change of a key: the release has it, root's files have it, or the controller or a step uses it."""


class Required(NamedTuple):
    """Stands for the default of a key that must be there. example: a value as YAML writes it."""

    example: str


class Reader(NamedTuple):
    """Reads one value, or raises UsageError.

    form: what fits, a noun with its article
    example: a value that fits, as YAML writes it
    below: the keys of a mapping, grouped by sub-mapping (`web`, `NAME`); "" for the top-level keys of the mapping
    """

    read: Callable[[Node], Any]
    form: str
    example: str
    below: tuple[tuple[str, tuple[Key, ...]], ...] = ()


class Key(NamedTuple):
    """One key.

    default: the value where the key is absent, or null
    applied: what applies a change of it
    about: what it does, for the reference
    """

    name: str
    reader: Reader
    default: object
    applied: str
    about: str
    example: str = ""


def read(node: Node, keys: tuple[Key, ...]) -> dict[str, Any]:
    """Return the values of a mapping that may have only these keys, with the defaults of those that are absent."""
    fields = schema.keys(node, [key.name for key in keys])
    return {key.name: _value(key, node, fields) for key in keys}


def _value(key: Key, node: Node, fields: dict[str, Node]) -> Any:
    if isinstance(key.default, Required):
        return key.reader.read(schema.required(node, fields, key.name, key.default.example))
    return schema.optional(fields, key.name, key.reader.read, key.default)


def text(shape: Shape) -> Reader:
    """Read a text of this shape."""
    return Reader(partial(schema.text, shape=shape), shape.expected, shape.example)


def choice(*options: str) -> Reader:
    """Read one of these texts."""
    return Reader(partial(schema.choice, options=options), f"one of {', '.join(options)}", options[0])


def boolean() -> Reader:
    """Read true or false."""
    return Reader(schema.boolean, "true or false", "true")


def integer(low: int, high: int) -> Reader:
    """Read a whole number from low to high."""
    return Reader(partial(schema.integer, low=low, high=high), f"a whole number from {low} to {high}", str(low))


def number(low: int, high: int) -> Reader:
    """Read a number from low to high, fractions allowed."""
    return Reader(partial(schema.number, low=low, high=high), f"a number from {low} to {high}", str(low))


def mapping(read_it: Callable[[Node], Any], keys: tuple[Key, ...]) -> Reader:
    """Read a mapping of these keys by `read_it`."""
    return Reader(read_it, "a mapping", "", (("", keys),))
