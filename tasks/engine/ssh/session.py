"""The one seam to a host: `execute(script, run, sink, payload) -> Transcript`. SSH and a local shell implement it.

A script goes over standard input, its length in a line before it, so that the command line is the same few plain
characters for any login shell (sh, fish, csh) and any script, no argument limit applies, and `ps` shows nothing. Then
come the four lines of the run, then the payload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tasks.engine import quote
from tasks.engine.errors import LoopError
from tasks.engine.host import host_program
from tasks.engine.host.protocol import Output, Report, Transcript

if TYPE_CHECKING:
    from tasks.engine.host.steps import Script

Sink = Callable[[Report | Output], None]

BLOCK = 32 * 1024 - 64
"""Bytes that go into one packet: sshd takes packets of 32 kB, and paramiko leaves room for a header."""

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Whatever a login sets: `head` is found."""
_PLAIN = ("/usr/bin/env", "LC_ALL=C", _PATH)
"""The same for who becomes somebody else first: what sudo says is read here, in English."""


class Run(NamedTuple):
    """One run of a command on the controller. who: one line of JSON; failpoint: `STEP=ACTION`, or nothing."""

    id: str
    who: str
    failpoint: str = ""


class LinkLost(LoopError):
    """The connection ended before the script did: what it did is unknown, and has to be read back."""

    code = "link-lost"


class Session(Protocol):
    """Something that runs scripts on one host."""

    def execute(self, script: Script, run: Run, sink: Sink, payload: Iterable[bytes] = ()) -> Transcript:
        """Run it to its end and return what it said; LinkLost when the end was not seen."""
        ...


def command(become: tuple[str, ...] = ()) -> str:
    """The command line that reads a script from standard input and runs it; become: what is put before it.

    It is the same for every script, so that the shell of the next one can be begun before that is known.
    """
    words = map(quote.login_shell, (*(_PLAIN if become else ()), *become, "/bin/sh", "-c"))
    # `$` and `"` mean nothing between single quotes in sh, fish and csh alike.
    return " ".join(
        ["exec", *words, f'\'{_PATH}; IFS= read -r length && SCRIPT=$(head -c "$length") && eval "$SCRIPT"\'']
    )


def framed(text: str) -> bytes:
    """A script as that command line reads it."""
    data = text.encode()
    return b"%d\n%s" % (len(data), data)


def opening(script: Script, launcher: str = host_program.LAUNCHER) -> bytes:
    """What a host reads first: what finds a Python, and the place of the copy that is to be run, empty for none.

    It is the same for all that one account runs of a copy, so that the interpreter of the next step can be begun before
    that step is known.
    """
    return framed(launcher) + f"{script.place}\n".encode()


def stream(script: Script, run: Run, nonce: str, payload: Iterable[bytes], program: str = "") -> Iterator[bytes]:
    """What goes to standard input after the opening, in blocks: the program unless a copy is run; the lines of the run;
    the step; the payload. Nothing of it waits for the payload. program: its text, if not the one of this version.
    """
    head = f"{nonce}\n{run.id}\n{run.who}\n{run.failpoint}\n".encode()
    text = [] if script.place else [framed(program or host_program.text())]
    yield from blocks([*text, head, framed(script.text)])
    yield from blocks(payload)


def blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks of BLOCK, the last one shorter: small pieces are joined, large ones cut."""
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


def send(channel: Any, pieces: Iterable[bytes]) -> None:
    """Write all pieces to a channel of paramiko's: its `sendall` copies what is left once for each packet."""
    for block in blocks(pieces):
        channel.sendall(block)
