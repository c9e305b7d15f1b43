"""JSON that somebody else wrote: a host, a service, whoever can write into a log. Pure."""

from __future__ import annotations

import json
import math

SIZE = 1024 * 1024
"""Characters of a document: brackets alone take twenty times as much memory as they have letters."""
DEPTH = 32
"""Levels of lists and objects: deeper than that nobody means anything, and whoever writes it out again would fail."""


def load(text: str) -> object:
    """The value; ValueError for what is no JSON, and for what is too long or nested too deeply.

    NaN, Infinity and 1e999, which nobody could write as JSON again, come as the words they are.
    """
    if len(text) > SIZE:
        raise ValueError("too long")
    try:
        value: object = json.loads(text, parse_constant=str, parse_float=_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if text.count("[") + text.count("{") > DEPTH:
        _measure(value)
    return value


def _number(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else text


def _measure(value: object) -> None:
    """ValueError for too many levels; one after the other, since calls within calls are what runs out."""
    level = [value]
    for _ in range(DEPTH):
        level = [inner for outer in level for inner in _inner(outer) if isinstance(inner, dict | list)]
        if not level:
            return
    raise ValueError("nested too deeply")


def _inner(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
