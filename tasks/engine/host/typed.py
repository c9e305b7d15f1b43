"""Read JSON from an untrusted source into the types that it must have. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

LETTERS = 70_000
"""Characters of one text at most."""
ENTRIES = 10_000
"""Entries of one list or mapping at most."""
_NUMBERS = range(2**64)
_SHOWN = 60


def read(kind: type[T], value: object, place: str = "") -> T:
    """Return the value as `kind`: str, int from 0 to 2^64 - 1, bool, or a tuple, mapping or named tuple of such types.

    Raise ValueError with the place of a value that has another type, is too long, missing or unknown.
    place: the place of this value in the document.
    """
    typed: T = _read(kind, value, place)
    return typed


def _read(kind: Any, value: object, place: str) -> Any:
    if hasattr(kind, "_fields"):
        return _named(kind, value, place)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _optional(arguments, value, place)
    if origin is tuple and isinstance(value, list) and len(value) <= ENTRIES:
        return tuple(_read(arguments[0], item, f"{place}[{number}]") for number, item in enumerate(value))
    if origin is not None and issubclass(origin, Mapping) and isinstance(value, dict) and len(value) <= ENTRIES:
        return {
            _read(str, key, place): _read(arguments[1], item, f"{place}.{key[:_SHOWN]}") for key, item in value.items()
        }
    # In Python a bool is an int.
    if kind is str and isinstance(value, str) and len(value) <= LETTERS:
        return value
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and isinstance(value, int) and not isinstance(value, bool) and value in _NUMBERS:
        return value
    raise ValueError(f"{place or 'it'} is {_shown(value)}")


def _optional(arguments: tuple[Any, ...], value: object, place: str) -> Any:
    if value is None and NoneType in arguments:
        return None
    (kind,) = (argument for argument in arguments if argument is not NoneType)
    return _read(kind, value, place)


def _named(kind: Any, value: object, place: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{place or 'it'} is {_shown(value)}")
    hints = _hints(kind)
    if other := sorted(str(key) for key in value.keys() ^ hints.keys()):
        raise ValueError(f"{place or 'it'} has no {other[0][:_SHOWN]}, or nothing of that name belongs there")
    return kind(**{key: _read(hint, value[key], f"{place}.{key}".lstrip(".")) for key, hint in hints.items()})


@cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _shown(value: object) -> str:
    """Describe a value for a message: its type, and its beginning."""
    if isinstance(value, (list, dict)):
        return f"a {'list' if isinstance(value, list) else 'mapping'} of {len(value)}"
    if isinstance(value, str):
        return f"a text of {len(value)} letters, {value[:_SHOWN]!r}"
    # Python refuses to print an int of thousands of digits.
    return f"{value!r}" if not isinstance(value, int) or abs(value) < 2**70 else "a number that is too large"
