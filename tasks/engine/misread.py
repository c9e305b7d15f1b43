"""What goes wrong while the work of one host runs is that host's error, whatever the exception. Pure."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.engine.errors import LoopError

_LONGEST = 300
"""Characters of an exception that are shown; the log of the run has all of it."""
_LOGGED = 64 * 1024
"""Characters of a traceback that the log of the run keeps, its end: an exception may quote what the host said."""


class Misread(LoopError):
    """A host's answer made our code fail; the exception is its cause, and its traceback belongs into the log."""

    code = "not-understood"

    @property
    def trace(self) -> str:
        """The traceback of the exception, for the log of the run."""
        cause = self.__cause__
        return "".join(traceback.format_exception(cause))[-_LOGGED:] if cause else ""


@contextmanager
def own(host: str) -> Iterator[None]:
    """Raise every exception of the work on `host` as a LoopError of that host.

    Hosts run at the same time: the answer of one must not end the work on another, nor the command.
    """
    try:
        yield
    except LoopError:
        raise
    except Exception as error:
        raise _misread(host, error) from error


def _misread(host: str, error: Exception) -> LoopError:
    told = f"{type(error).__name__}: {error}"
    told = told if len(told) <= _LONGEST else f"{told[:_LONGEST]} ..."
    if isinstance(error, OSError):
        # A file or a program of this machine, or a connection that ended: the host may not be at fault.
        return Misread(f"the work on this host was broken off: {told}", where=host, code="broken-off",
                       next=f"run the command again, and check the host: fab doctor -H {host}")  # fmt: skip
    said = "the host said more than this machine has memory for" if isinstance(error, MemoryError) else None
    return Misread(
        f"{said or 'the host said something that cannot be understood'} ({told})",
        where=host,
        next=f"look at the host by hand: fab shell -H {host}; if all is well there, report this: "
        "the log of the run has the traceback",
    )
