"""Hold the run lock while the controller sends a byte every few seconds; it is free SILENCE seconds after the last one.

Another run reads the holder from the lock file.
"""

from __future__ import annotations

import io
import json
import os
import select
import time
from contextlib import suppress

from . import history, kept_copies, locks
from .folders import Folder
from .run import Busy, Ended, Run

SILENCE = 30
"""Seconds without a byte after which the controller counts as gone."""
_LOOK = 1
"""Seconds between two looks for a signal."""
_ENDING = 5
"""Seconds to wait for a holder whose run is over on this host: it learns that after its controller has ended."""


def perform(run: Run) -> None:
    """Run the step; the controller's `steps.hold` describes its keys."""
    with locks.opened(run.step["name"], "run") as lock:
        _take(run, lock, run.step["wait"])
        lock.write(run.holder(run.step["action"], run.step["release"]))
        run.point("hold.taken")
        _keep(run)
        # The controller asked for the facts before: this line tells it whether another run has changed the host since.
        run.report("last", _last(run.step["root"]))
        run.report("held", run.id)
        _listen(run)


def _take(run: Run, lock: locks.Lock, wait: float) -> None:
    """Take the lock within `wait` seconds; report its present holder at once, unless it is about to let go."""
    if lock.take():
        return
    refusal = lock.refusal()
    if not wait and isinstance(refusal, Busy) and _is_over(lock.read(), _last(run.step["root"])):
        if lock.take_within(run, _ENDING):
            return
        refusal = lock.refusal()
    if not (wait and isinstance(refusal, Busy)):
        raise refusal
    run.report(refusal.word, refusal.text)
    if not lock.take_within(run, wait, aloud=True):
        raise Ended(refusal.status)


def _is_over(holder: str, last: str) -> bool:
    """Return whether the holder is the run whose outcome is the last line of the history."""
    try:
        by, line = json.loads(holder), json.loads(last)
        return bool((by["run"], by["action"]) == (line["run"], line["action"]) and line["state"] != "started")
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _keep(run: Run) -> None:
    """Keep a copy of this program for the next steps, and report that; go on without a copy if the disk is full."""
    with suppress(OSError):
        kept_copies.keep(run, run.step["root"], run.sources)
        run.report("kept")


def _last(root: str) -> str:
    """Return the last line of the history; empty if there is none, or the service is not set up."""
    try:
        with Folder.open(root) as folder:
            return history.last(folder)
    except FileNotFoundError:
        return ""


def _listen(run: Run) -> None:
    """Wait until the controller is silent for too long, or closes its end."""
    # Bytes in the reader's buffer came before this wait; all new ones come by the descriptor.
    try:
        descriptor = run.payload.fileno()
    except io.UnsupportedOperation:
        # Run by hand, without a controller.
        return
    heard = time.monotonic()
    while time.monotonic() - heard < SILENCE:
        run.heed()
        if select.select([descriptor], [], [], _LOOK)[0]:
            if not os.read(descriptor, 4096):
                return
            heard = time.monotonic()
