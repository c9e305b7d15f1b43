"""Read what is to be done from standard input, do it, and report how it ended."""

from __future__ import annotations

import io
import json
import os
import select
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, BinaryIO

from . import by_hand, kept, programs
from .run import Ended, Interrupted, Run, Stopped

STEPS = (
    "facts",
    "status",
    "setup",
    "hold",
    "stage",
    "hook",
    "activate",
    "guard",
    "stop",
    "start",
    "maintenance",
    "drift",
    "remove",
)
"""Each is a module, whose `perform` does it."""
OF_THE_ACCOUNT = ("hold", "stage", "hook", "activate")
"""Those that follow each other in a run."""


class _Unfit(Stopped):
    """This Python cannot run the step. It is told as a copy is that cannot be run: nothing was done."""

    word, status = "program", kept.DAMAGED


def main(head: tuple[str, str, str, str], stream: BinaryIO, sources: Mapping[str, str]) -> int:
    """Perform one step. head: nonce, run id, who, failpoint; stream: the step's length, the step, then the payload.

    sources: the modules, where the program was sent whole.
    """
    os.umask(0o022)
    step: dict[str, Any] = json.loads(stream.read(int(stream.readline())))
    run = Run(head, step, stream)
    run.sources = sources
    return perform(run)


def perform(run: Run) -> int:
    """Perform the step of a run; the exit status."""
    step = run.step
    programs.tell = run.output
    run.listen()
    try:
        if step["step"] not in STEPS:
            raise ValueError(f"there is no step {step['step']!r}")
        # With all that it needs, before it does anything: what it is imported from may change meanwhile.
        _module(step["step"]).perform(run)
        run.report("end", "ok")
    except Ended as ended:
        return ended.status
    except Interrupted:
        return 129
    except Stopped as stopped:
        run.leave()
        run.report(stopped.word, stopped.text)
        return stopped.status
    except Exception as error:
        run.leave()
        run.report("refused", run.why(error))
        return 1
    return 0


def _module(step: str) -> Any:
    try:
        return import_module(f".{step}", __package__)
    except ImportError as error:
        raise _Unfit(f"{sys.executable}: {error}") from None


def _by_hand(command: by_hand.Command) -> int:
    run = Run(command.head, command.step, io.BytesIO())
    run.in_words = True
    return perform(run)


def start(sources: Mapping[str, str]) -> None:
    """Entry point of what was imported, from `sources` or from a copy: the four lines of the run come first."""
    # Whatever the login or sudo has set: these are found, and speak English.
    os.environ.update({"LC_ALL": "C", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
    if sys.argv[1:]:
        copy = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        command = by_hand.parse(sys.argv[1:], os.path.dirname(copy))
        sys.stdout.flush()
        os._exit(_by_hand(command) if command else 0)
    stream = sys.stdin.buffer
    if not (sources or select.select([stream], [], [], 0)[0]):
        # It was begun ahead, for whatever comes next: there is time to load what that may need.
        for step in OF_THE_ACCOUNT:
            import_module(f".{step}", __package__)
    nonce, run, who, failpoint = (stream.readline().decode().rstrip("\n") for _ in range(4))
    status = main((nonce, run, who, failpoint), stream, sources)
    # Nothing is left to close, and taking the interpreter apart takes time that a person waits for.
    os._exit(status)
