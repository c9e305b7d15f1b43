"""Hold the run lock while the controller sends a byte every few seconds; it is free SILENCE seconds after the last one.

This process holds it, and a fork of it, the performer, performs the further steps of the run: whatever ends that one,
the lock is held. Both have the same input. The performer reads it; once that one has ended, this process does. Another
run reads the holder from the lock file.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import select
import sys
import termios
import time
from contextlib import suppress

from . import history, kept_copies, locks
from .folders import Folder
from .life import SIGNS
from .run import Busy, Ended, Run

SILENCE = 30
"""Seconds without a byte after which the controller counts as gone."""
_FULL = 150
"""The same while the performer reads nothing of much that has come: after 120 s of that the controller gives up."""
_BEATS = 4096
"""Bytes that lie unread at most if the controller sends nothing but signs of life."""
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
    """Wait until the controller is silent for too long, or closes its end. Another process performs the steps."""
    # Bytes in the reader's buffer came before this wait; all new ones come by the descriptor.
    try:
        descriptor = run.payload.fileno()
    except io.UnsupportedOperation:
        # Run by hand, without a controller.
        return
    signs, pipe = os.pipe()
    performer = os.fork()
    if not performer:
        os.close(signs)
        SIGNS.go_to(pipe)
        run.goes_on = True
        # Leave the lock to the other process: the caller closes the file here.
        raise Ended(0)
    os.close(pipe)
    if _watch(run, performer, descriptor, signs):
        status = os.waitstatus_to_exitcode(os.waitpid(performer, 0)[1])
        run.report("over", str(max(-1, status)))
        _discard(run, descriptor)


def _watch(run: Run, performer: int, descriptor: int, signs: int) -> bool:
    """Wait while the performer reads the input; return whether it has ended, and not the controller.

    During a step the performer may read nothing: then more and more bytes lie unread.
    """
    look = select.poll()
    look.register(signs, select.POLLIN)
    look.register(descriptor, select.POLLRDHUP)
    heard, unread = time.monotonic(), 0
    while True:
        ready = dict(look.poll(_LOOK * 1000))
        run.heed()
        if descriptor in ready:
            return False
        # A fork of the performer may have the pipe open for longer.
        if (signs in ready and not os.read(signs, 4096)) or _has_ended(performer):
            return True
        there = _unread(descriptor)
        if signs in ready or there != unread:
            heard, unread = time.monotonic(), there
        if time.monotonic() - heard >= (_FULL if there > _BEATS else SILENCE):
            return False


def _has_ended(performer: int) -> bool:
    return os.waitid(os.P_PID, performer, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _unread(descriptor: int) -> int:
    """Return how many bytes of the input have not been read yet."""
    count = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
    return int.from_bytes(count, sys.byteorder)


def _discard(run: Run, descriptor: int) -> None:
    """Wait as long as bytes come."""
    heard = time.monotonic()
    while time.monotonic() - heard < SILENCE:
        run.heed()
        if select.select([descriptor], [], [], _LOOK)[0]:
            if not os.read(descriptor, 4096):
                return
            heard = time.monotonic()
