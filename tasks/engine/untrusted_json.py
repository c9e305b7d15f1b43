"""Parse JSON from a host, a service or any process that writes to a log, within limits. Pure."""

from __future__ import annotations

import json
import math

SIZE = 1024 * 1024
"""Characters of a document: a document of brackets takes twenty times its size in memory."""
DEPTH = 32
"""Levels of lists and objects: no real document is deeper, and json.dumps fails on much deeper ones."""


_FEW = 10_000
"""Brackets, quotes and commas of a document above SIZE."""


def load(text: str, size: int = SIZE) -> object:
    """Return the value; ValueError for text that is no JSON, too long or nested too deeply.

    NaN, Infinity and 1e999 are returned as text, since JSON cannot express them.
    size: characters that are allowed; above SIZE only for a document that is one long text, and not many values.
    """
    if len(text) > size or (len(text) > SIZE and sum(map(text.count, '[{",')) > _FEW):
        raise ValueError("too long")
    try:
        value: object = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if text.count("[") + text.count("{") > DEPTH:
        measure(value)
    return value


def _number(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else text


# Made once: a manifest is ten thousand documents.
_DECODER = json.JSONDecoder(parse_constant=str, parse_float=_number)


def measure(value: object) -> None:
    """Raise ValueError for too many levels. Not recursive, since deep values would exhaust the stack."""
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
