"""Values that somebody else wrote as JSON, read as the types that they have to be of. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

LETTERS = 70_000
"""Of one text."""
ENTRIES = 10_000
"""Of one list or mapping."""
_NUMBERS = range(2**64)
_SHOWN = 60


def read(kind: type[T], value: object, place: str = "") -> T:
    """The value as a type: a named tuple of such types, text, number from 0 to 2^64 - 1, yes or no, tuple or mapping.

    ValueError with the place of what is of another type, too long or too many, missing or not known. place: of this
    value in the whole.
    """
    found: T = _read(kind, value, place)
    return found


def _read(kind: Any, value: object, place: str) -> Any:
    if hasattr(kind, "_fields"):
        return _named(kind, value, place)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _optional(arguments, value, place)
    if origin is tuple and isinstance(value, list) and len(value) <= ENTRIES:
        return tuple(_read(arguments[0], one, f"{place}[{number}]") for number, one in enumerate(value))
    if origin is not None and issubclass(origin, Mapping) and isinstance(value, dict) and len(value) <= ENTRIES:
        return {
            _read(str, key, place): _read(arguments[1], one, f"{place}.{key[:_SHOWN]}") for key, one in value.items()
        }
    # To Python yes and no are numbers.
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
    (kind,) = (one for one in arguments if one is not NoneType)
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
    """What kind of thing it is, and its beginning."""
    if isinstance(value, (list, dict)):
        return f"a {'list' if isinstance(value, list) else 'mapping'} of {len(value)}"
    if isinstance(value, str):
        return f"a text of {len(value)} letters, {value[:_SHOWN]!r}"
    # Python writes out no number of thousands of digits.
    return f"{value!r}" if not isinstance(value, int) or abs(value) < 2**70 else "a number that is too large"
