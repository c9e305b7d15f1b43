"""The wire format of a step: the starter, the path of the copy (if none, the program follows), four lines of the run,
the step, the payload.

`SshSession.execute` runs a step; `channel` serves commands and logs. All goes on standard input, so the command line is
the same for any login shell (sh, fish, csh), has no length limit, and `ps` shows none of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from tasks.engine import quote
from tasks.engine.errors import LoopError
from tasks.engine.host import host_program
from tasks.engine.host.protocol import Output, Report

if TYPE_CHECKING:
    from tasks.engine.host.steps import HostStep

Sink = Callable[[Report | Output], None]

BLOCK = 32 * 1024 - 64
"""Bytes that fit into one packet: sshd takes packets of 32 kB, and paramiko leaves room for a header."""

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Finds `head`, whatever PATH the login sets."""
_PLAIN = ("/usr/bin/env", "LC_ALL=C", _PATH)
"""Sets the same PATH before `become`, and English, because step_errors reads sudo's messages."""


class Run(NamedTuple):
    """One run of a command on the controller. who: one line of JSON; failpoint: `NAME=ACTION`, or nothing."""

    id: str
    who: str
    failpoint: str = ""


class LinkLost(LoopError):
    """The connection ended before the step did: its effects are unknown until the facts are read again."""

    code = "link-lost"


def command(become: tuple[str, ...] = ()) -> str:
    """Return the command line that reads a script from standard input and runs it. become: a prefix (sudo, runuser).

    The line is the same for every script, so the next shell can be started before the next script is known.
    """
    words = map(quote.login_shell, (*(_PLAIN if become else ()), *become, "/bin/sh", "-c"))
    # `$` and `"` are literal between single quotes in sh, fish and csh alike.
    return " ".join(
        ["exec", *words, f'\'{_PATH}; IFS= read -r length && SCRIPT=$(head -c "$length") && eval "$SCRIPT"\'']
    )


def framed(text: str) -> bytes:
    """Return the bytes of a script as that command line reads it."""
    return _framed(text.encode())


def _framed(data: bytes) -> bytes:
    return b"%d\n%s" % (len(data), data)


@cache
def opening(place: str, starter: str = host_program.STARTER, program: str = "") -> bytes:
    """Return what a host reads first: the starter, which finds a Python, and the path of the copy to run.

    An empty path, and the program, if the host is to run no copy. These bytes are the same for all steps that one
    account runs so, so the interpreter of the next step can be started before that step is known. All hosts of a run
    share them in memory, and the program is compressed once for all of them.

    program: another text than this version's.
    """
    sent = b"" if place else _framed(zlib.compress((program or host_program.text()).encode()))
    return framed(starter) + f"{place}\n".encode() + sent


def stream(step: HostStep, run: Run, nonce: str, payload: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what follows the opening on standard input, in blocks: the lines of the run; the step; the payload.

    All else is sent before the payload's first piece is read.
    """
    head = f"{nonce}\n{run.id}\n{run.who}\n{run.failpoint}\n".encode()
    yield from blocks([head, framed(step.text)])
    yield from blocks(payload)


def blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in blocks of BLOCK, the last one shorter: join small pieces, cut large ones."""
    held = bytearray()
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            room = BLOCK - len(held)
            held += rest[:room]
            rest = rest[room:]
            if len(held) == BLOCK:
                yield bytes(held)
                held.clear()
    if held:
        yield bytes(held)
