"""Hold the run's lock while the controller says that it is there: a byte every few seconds, and the end after silence.

Whoever comes meanwhile is told who holds it; a controller that is gone holds nothing for longer than that.
"""

from __future__ import annotations

import io
import os
import select
import time
from contextlib import suppress

from . import history, locks, program
from .folders import Folder
from .run import Busy, Ended, Run

SILENCE = 30
"""Seconds without a byte after which the controller is taken to be gone."""
_LOOK = 1
"""Seconds after which a signal is heeded."""


def perform(run: Run) -> None:
    """See the step's keys at `steps.hold` of the controller."""
    with locks.opened(run.step["name"], "run") as lock:
        _take(run, lock, run.step["wait"])
        lock.write(run.holder(run.step["action"], run.step["release"]))
        run.point("hold.taken")
        _keep(run)
        # Who asked before it was taken sees by this whether another run has come between.
        run.report("last", _last(run.step["root"]))
        run.report("held", run.id)
        _listen(run)


def _take(run: Run, lock: locks.Lock, wait: float) -> None:
    """Hold it, at the latest after `wait` seconds; who has it meanwhile is told at once."""
    if lock.take():
        return
    held = lock.refuse()
    if not (wait and isinstance(held, Busy)):
        raise held
    run.report(held.word, held.text)
    if not lock.wait(run, wait, aloud=True):
        raise Ended(held.status)


def _keep(run: Run) -> None:
    """Keep this program for the steps that follow, and say so; a disk without room for it is no reason to end."""
    with suppress(OSError):
        program.keep(run, run.step["root"], run.sources)
        run.report("kept")


def _last(root: str) -> str:
    """The last line of the history; empty where the service is not set up, or nothing was done."""
    try:
        with Folder.open(root) as folder:
            return history.last(folder)
    except FileNotFoundError:
        return ""


def _listen(run: Run) -> None:
    """Until the controller is silent for too long, or has closed its end."""
    # What the buffered reader holds already was said before this begins to wait; its descriptor has all that comes.
    try:
        descriptor = run.payload.fileno()
    except io.UnsupportedOperation:
        # Who does this by hand has no controller.
        return
    heard = time.monotonic()
    while time.monotonic() - heard < SILENCE:
        run.heed()
        if select.select([descriptor], [], [], _LOOK)[0]:
            if not os.read(descriptor, 4096):
                return
            heard = time.monotonic()
