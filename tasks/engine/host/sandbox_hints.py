"""Recognize in log lines what the service's sandbox forbids, and name the key of service.yaml that opens it. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

_LONGEST = 500
"""Characters looked at of a line."""


class _Sign(NamedTuple):
    """Words of a failure. needs: words of `needs` of which any opens it, empty if none does; way: what opens it."""

    words: re.Pattern[str]
    needs: tuple[str, ...]
    way: str


def _sign(words: str, needs: tuple[str, ...], way: str) -> _Sign:
    return _Sign(re.compile(words, re.IGNORECASE), needs, way)


_NETWORK = "`needs: [network]` opens networks and name resolution, `needs: [host]` this host's loopback alone"
_SIGNS = (
    _sign(r"Address family not supported by protocol|\bEAFNOSUPPORT\b|\[Errno 97\]", ("host", "network"), _NETWORK),
    _sign(r"Network is unreachable|\bENETUNREACH\b|\[Errno 101\]", ("network",), _NETWORK),
    _sign(r"Name or service not known|failure in name resolution|could not (?:resolve|translate) host"
          r"|Name does not resolve|No address associated with hostname|getaddrinfo failed|\[Errno -[235]\]",
          ("network",), _NETWORK),
    _sign(r"Connection refused|\bECONNREFUSED\b|\[Errno 111\]", ("host", "network"),
          "`needs: [host]` opens this host's loopback, such as a database at 127.0.0.1"),
    _sign(r"connect.*: Operation not permitted|connect.*\bEPERM\b", ("network",), _NETWORK),
    _sign(r"Read-only file system|\bEROFS\b|\[Errno 30\]|readonly database|unable to open database file"
          r"|Permission denied: '/opt/apps/", (),
          "`shared` opens a directory of the code, such as [media]; elsewhere a service writes to the directories that "
          "STATE_DIRECTORY and CACHE_DIRECTORY name, and to /tmp"),
    _sign(r"\bmprotect\b|execut(?:able|e) (?:memory|stack)|Unable to allocate section memory", ("jit",),
          "`needs: [jit]` opens memory that is writable and executable"),
    _sign(r"(?:No such file|not found).*/proc/(?!self/|[0-9])[a-z]|/proc/(?!self/|[0-9])[a-z]+: No such file",
          ("proc",), "`needs: [proc]` opens the rest of /proc"),
    _sign(r"(?:Permission denied|No such file or directory).*/home/", ("home",),
          "`needs: [home]` opens /home, to read"),
)  # fmt: skip


class Hint(NamedTuple):
    """A line that looks like the sandbox's doing. way: what opens it, a sentence without an end."""

    line: str
    way: str


def hints(lines: Iterable[str], needs: Collection[str]) -> tuple[Hint, ...]:
    """Return the last line of each kind that looks like the sandbox, unless `needs` has a key that opens it."""
    found: dict[str, str] = {}
    closed = [sign for sign in _SIGNS if not set(sign.needs) & set(needs)]
    # A structured line has its traceback in one text, with \\n for each end of a line.
    for piece in (piece[:_LONGEST] for line in lines for piece in line.split("\\n")):
        for sign in closed:
            if sign.words.search(piece):
                found[sign.way] = piece
    return tuple(Hint(line, way) for way, line in found.items())


def advice(lines: Iterable[str], needs: Collection[str]) -> str:
    """Return a sentence to append: how service.yaml allows what these lines show as forbidden; empty for none."""
    ways = [hint.way for hint in hints(lines, needs)]
    return f". The sandbox may forbid it, and service.yaml opens it: {'; '.join(ways)}" if ways else ""
