"""Parse TOML that a stranger may have written: in a time that grows with its length, and of a limited depth. Pure."""

from __future__ import annotations

import re
import sys
from typing import Any

from tasks.engine import untrusted_json

_KEY = r"""(?:"[^"\n]*"|'[^'\n]*'|(?<![A-Za-z0-9_-])[A-Za-z0-9_-]+)[ \t]*"""
# The parser takes a time that grows with the square of the parts of a key.
_LONG = re.compile(rf"(?:{_KEY}\.[ \t]*){{{untrusted_json.DEPTH}}}")


def parse(text: str) -> dict[str, Any]:
    """Return the document; ValueError for a text that is no TOML, or is nested too deeply."""
    # Imported only here: most services have no file of it.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    if _LONG.search(text):
        raise ValueError("a key in it is nested too deeply")
    try:
        found: dict[str, Any] = tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    untrusted_json.measure(found)
    return found
