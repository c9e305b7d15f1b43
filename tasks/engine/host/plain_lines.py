"""Recognize the levels and tracebacks in plain lines of Python's logging and of gunicorn. Pure."""

from __future__ import annotations

import re

LEVELS = {
    **dict.fromkeys(("critical", "fatal", "alert", "emergency", "error"), "error"),
    **dict.fromkeys(("warn", "warning"), "warning"),
    **dict.fromkeys(("notice", "info"), "info"),
    **dict.fromkeys(("debug", "trace"), "debug"),
}
"""Names of levels, in lower case, and the one of our four words for each."""
_HEAD = 300
"""Characters of a line that may name its level."""
_FIELDS = 4
"""Fields behind the time among which the level is looked for."""
_CALL = 0.2
"""Seconds between a logging call's message and its traceback at most: both are one write."""

_NAMES = frozenset(("CRITICAL", "FATAL", "ERROR", "WARNING", "WARN", "INFO", "DEBUG"))
# ERROR:root:message, ERROR 2026-01-31 ..., [ERROR] message
_FIRST = re.compile(r"\[?([A-Z]{4,8})[]:|\s]")
# name - ERROR - message
_SECOND = re.compile(r"[\w.]{1,100} - ([A-Z]{4,8}) - ")
_TIME = re.compile(
    r"\[?(?:\d{4}-\d\d-\d\d[T ]|\d\d/\w{3}/\d{4}[: ])?\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?: ?(?:Z|[+-]\d\d:?\d\d))?"
)

_TRACEBACK = re.compile(r"Traceback \(most recent call last\):")
_GROUP = re.compile(r"  \+ Exception Group Traceback \(most recent call last\):")
_FRAME = re.compile(r'  File "[^"]{1,4096}", line \d')
# The last line of a traceback: the name of the exception, alone or before its message.
_EXCEPTION = re.compile(r"[^\W\d][\w.<>]{0,300}(?::|$)")
_CHAINED = frozenset((
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
))  # fmt: skip


def level(line: str) -> str | None:
    """Return the level that a plain line names, as one of our four words; None if it has no usual form."""
    head = line[:_HEAD]
    match = _FIRST.match(head) or _SECOND.match(head)
    if match:
        return _known(match[1])
    time = _TIME.match(head)
    if not time:
        return None
    # As in "- name - ERROR -", "] [123] [ERROR]", ": ERROR/MainProcess]".
    fields = [field for field in re.split(r"[\s\[\]|/]+", head[time.end() :]) if field.strip(":-")]
    return next(filter(None, (_known(field.rstrip(":")) for field in fields[:_FIELDS])), None)


def _known(name: str) -> str | None:
    return LEVELS[name.lower()] if name in _NAMES else None


class Process:
    """The place in a traceback that the lines of one process have come to."""

    def __init__(self) -> None:
        # The kind of the last line: none of interest, logged, frame, group (a frame of an exception group), end, chain.
        self._last = "none"

    @property
    def inside(self) -> bool:
        """Return whether the last line is part of a traceback."""
        return self._last in {"frame", "group", "end", "chain"}

    @property
    def open(self) -> bool:
        """Return whether the next line may belong to the last one."""
        return self._last != "none"

    def follows(self, line: str, seconds: float) -> bool:
        """Add a line; return whether it belongs to the line before it. seconds: between the two."""
        before = self._last
        if before in {"frame", "group"} and line.startswith(" "):
            return True
        if _TRACEBACK.match(line) or _GROUP.match(line):
            self._last = "group" if line.startswith(" ") else "frame"
            return before == "chain" or (before == "logged" and 0 <= seconds <= _CALL)
        if before in {"end", "group"} and line in _CHAINED:
            self._last = "chain"
            return True
        if before == "frame" and _EXCEPTION.match(line) and not level(line):
            self._last = "end"
            return True
        # A traceback whose beginning is not here starts with a frame.
        self._last = "frame" if _FRAME.match(line) else "logged" if level(line) else "none"
        return False
