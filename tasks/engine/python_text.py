"""Parse a Python file that a user or a stranger may have written, of a limited size and depth."""

from __future__ import annotations

import ast

LIMIT = 1000 * 1000
"""Bytes of a file at most: its tree takes several hundred times the memory."""


def parse(text: str | bytes) -> ast.Module:
    """Return the tree of a file; SyntaxError for each that Python cannot read, and for one that is too large or deep.

    The tree may still be deep: walk it with a list or `ast.walk`, not by recursion.
    """
    if len(text) > LIMIT:
        raise SyntaxError(f"it has more than {LIMIT / 1e6:g} MB")
    try:
        return ast.parse(text)
    except (RecursionError, MemoryError):
        raise SyntaxError("an expression in it is nested too deeply") from None
    except ValueError as error:
        raise SyntaxError(str(error)) from None
