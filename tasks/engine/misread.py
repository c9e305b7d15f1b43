"""Turn every exception in the work on one host into an error of that host. Pure."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.engine.errors import LoopError

_LONGEST = 300
"""Characters of an exception that are shown; the log of the run has all of it."""
_LOGGED = 64 * 1024
"""Characters at the end of a traceback that the run log keeps: an exception may quote a host's long answer."""


class Misread(LoopError):
    """A host's answer made our code fail. The exception is its cause; the run log gets the traceback."""

    code = "not-understood"

    @property
    def trace(self) -> str:
        """The traceback of the exception, for the log of the run."""
        cause = self.__cause__
        return "".join(traceback.format_exception(cause))[-_LOGGED:] if cause else ""


@contextmanager
def as_error_of(host: str) -> Iterator[None]:
    """Raise every exception of the work on `host` as a LoopError of that host.

    Hosts run at the same time: the answer of one must end neither the work on another nor the command.
    """
    try:
        yield
    except LoopError:
        raise
    except Exception as error:
        raise _misread(host, error) from error


def _misread(host: str, error: Exception) -> LoopError:
    cause = f"{type(error).__name__}: {error}"
    cause = cause if len(cause) <= _LONGEST else f"{cause[:_LONGEST]} ..."
    if isinstance(error, OSError):
        # A file or a program of this machine, or a connection that ended: the host may not be at fault.
        return Misread(f"the work on this host was broken off: {cause}", where=host, code="broken-off",
                       next=f"run the command again, and check the host: fab doctor -H {host}")  # fmt: skip
    fault = "does not fit into this machine's memory" if isinstance(error, MemoryError) else "cannot be understood"
    return Misread(
        f"the host's answer {fault} ({cause})",
        where=host,
        next=f"look at the host by hand: fab shell -H {host}; if all is well there, report this: "
        "the log of the run has the traceback",
    )
