"""Check names that a host reports before they are used in a step, a command or its environment. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

from tasks.engine.errors import LoopError

RELEASE = r"[0-9a-z]{1,40}"
ACCOUNT = r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,99}"
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]{0,99}"
"""The name of a secret, which becomes a line of units."""
_SHOWN = 100


def require(called: str, text: str, shape: str, way: str) -> None:
    """Raise LoopError unless the text is empty or matches the pattern. called: the named thing; way: the next step."""
    if text and not re.fullmatch(shape, text):
        raise _lie(called, text, way)


def release(called: str, text: str | None, expected: Collection[str] | None = None) -> str | None:
    """Return the release ID that a host reported, None for none; LoopError if the text is not an ID.

    expected: the IDs it can be, with an empty text if there may be none; any other is a LoopError.
    """
    if text is None:
        return None
    way = "look at the host by hand, with fab shell, and at what it serves: fab status"
    require(called, text, RELEASE, way)
    if expected is not None and text not in expected:
        raise _lie(called, text, way)
    return text or None


def is_release(text: str) -> bool:
    """Return whether the text has the form of a release ID."""
    return re.fullmatch(RELEASE, text) is not None


def _lie(called: str, text: str, way: str) -> LoopError:
    """Make the error of a host that reports an impossible name."""
    message = f"the host reports {text[:_SHOWN]!r} as the name of {called}, which is impossible"
    return LoopError(message, next=way, code="lies")
