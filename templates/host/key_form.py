"""The form of SECRET_KEY and its fallback: the controller takes the key from one host and gives it to the others."""

from __future__ import annotations

MOST = 4096
"""Bytes of a key, without a line feed at its end."""


def is_key(value: bytes) -> bool:
    """Return whether a value is a line of printable UTF-8 of at most MOST bytes."""
    line = value[:-1] if value.endswith(b"\n") else value
    try:
        return 0 < len(line) <= MOST and line.decode("utf-8").isprintable()
    except UnicodeDecodeError:
        return False
