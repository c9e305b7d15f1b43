"""Read a step from standard input, perform it, and report its end; wait for the next one if the step says so."""

from __future__ import annotations

import gc
import io
import json
import os
import select
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any, BinaryIO

from . import by_hand, locks, programs, release
from .run import Ended, Interrupted, Run, Stopped

STEPS = (
    "facts",
    "libraries",
    "status",
    "setup",
    "certify",
    "secret",
    "hold",
    "stage",
    "hook",
    "activate",
    "guard",
    "command",
    "stop",
    "start",
    "maintenance",
    "drift",
    "remove",
)
"""Each is a module with a function `perform`; that of `status` is `status_by_hand`."""
_LOCKED = ("stage", "hook", "activate")
"""The steps for which a controller holds the run lock; by hand the step holds it."""
OF_THE_ACCOUNT = ("hold", "stage", "hook", "activate")
"""The steps after the facts that the deploy account performs, in order; only a new venv needs `libraries`, too."""


class _Unfit(Stopped):
    """This Python cannot run the step. Reported like a damaged copy: nothing was done."""

    word = "program"


def main(stream: BinaryIO, sources: Mapping[str, str]) -> int:
    """Perform a step, and the next one if it waits for that; return the exit status of the last.

    stream: for each step the lines nonce, run id, who and failpoint; its length, the step, then the payload
    sources: the program's modules if it was sent whole, else empty
    """
    os.umask(0o022)
    status = 0
    # The input ends when the controller wants no further step.
    while status == 0 and (first := stream.readline()):
        nonce, run_id, who, failpoint = map(_text, (first, *(stream.readline() for _ in range(3))))
        step: dict[str, Any] = json.loads(stream.read(int(stream.readline())))
        run = Run((nonce, run_id, who, failpoint), step, stream)
        run.sources = sources
        status = perform(run)
        if not step.get("waits"):
            break
        run.stop_listening()
    return status


def _text(line: bytes) -> str:
    return line.decode().rstrip("\n")


def perform(run: Run, *, lock_run: bool = False) -> int:
    """Perform the step of a run; return the exit status. lock_run: take the run lock: no controller holds it."""
    step = run.step
    programs.tell, release.heed = run.output, run.heed
    run.listen()
    try:
        if step["step"] not in STEPS:
            raise ValueError(f"there is no step {step['step']!r}")
        # Import all that the step needs before it changes anything: the copy on the disk may change meanwhile.
        module = _module(step["step"])
        gc.freeze()
        gc.enable()
        with _run_lock(run) if lock_run else nullcontext():
            module.perform(run)
        run.report("end", "ok")
    except Ended as ended:
        return ended.status
    except Interrupted:
        return 129
    except Stopped as stopped:
        run.begin_ending()
        run.report(stopped.word, stopped.text)
        return stopped.status
    except Exception as error:
        run.begin_ending()
        run.report("refused", run.why(error))
        return 1
    return 0


def _module(step: str) -> Any:
    try:
        return import_module(".status_by_hand" if step == "status" else f".{step}", __package__)
    except ImportError as error:
        raise _Unfit(f"{sys.executable}: {error}") from None


@contextmanager
def _run_lock(run: Run) -> Iterator[None]:
    """Hold the run lock: `change_lock` treats a run without the run lock as abandoned, and ends it."""
    step = run.step
    with locks.opened(step["name"], "run") as lock:
        if not lock.take():
            raise lock.refusal()
        lock.write(run.holder(step.get("action", step["step"]), step["release"]))
        yield


def _by_hand(command: by_hand.Command) -> int:
    run = Run(command.head, command.step, io.BytesIO())
    run.in_words = True
    return perform(run, lock_run=run.step["step"] in _LOCKED)


def start(sources: Mapping[str, str]) -> None:
    """Run the program, from `sources` or from a copy. The four lines of the head come first on standard input."""
    # Override what the login or sudo set: programs must be found, and print English.
    os.environ.update({"LC_ALL": "C", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
    if sys.argv[1:]:
        copy = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        command = by_hand.parse(sys.argv[1:], os.path.dirname(copy))
        sys.stdout.flush()
        os._exit(_by_hand(command) if command else 0)
    stream = sys.stdin.buffer
    if not (sources or select.select([stream], [], [], 0)[0]):
        # Started ahead of its step: use the time to import what any step may need.
        for step in OF_THE_ACCOUNT:
            import_module(f".{step}", __package__)
    status = main(stream, sources)
    # Skip the interpreter's shutdown: nothing is left to close, and the user waits.
    os._exit(status)
