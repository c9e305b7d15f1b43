"""The suites that hosts can be made of here.

On any Debian: its stable release and the neighbours of that. Elsewhere only the machine's own, as names and mirrors
of its sister releases are not known here.
"""

from __future__ import annotations

from tasks.engine.errors import UsageError
from tasks.engine.sandbox import sources


def suites() -> list[str | None]:
    """Return those that no other test boots; None for the controller's own."""
    try:
        distribution, own = sources.release()
    except UsageError:
        return [None]
    sisters: list[str | None] = [suite for suite in ("bullseye", "bookworm", "trixie") if suite != own]
    return sisters if distribution == "debian" else [None]
