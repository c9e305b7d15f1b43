"""Which suites hosts can be made of here.

Debian's stable release and its neighbours are tried on any Debian. Elsewhere, where the names and mirrors of sister
releases are not known here, it is the machine's own.
"""

from __future__ import annotations

from tasks.engine.errors import UsageError
from tasks.engine.sandbox import sources


def suites() -> list[str | None]:
    """Those that no other test boots; None for the controller's own."""
    try:
        distribution, own = sources.release()
    except UsageError:
        return [None]
    sisters: list[str | None] = [suite for suite in ("bullseye", "bookworm", "trixie") if suite != own]
    return sisters if distribution == "debian" else [None]
