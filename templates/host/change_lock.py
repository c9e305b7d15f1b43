"""Take turns at changing the slots of a service: one run at a time, after the guard of the run before it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from . import activity
from .folders import Folder
from .locks import Lock, opened
from .run import Run, now
from .service import Service

_GUARD_WAIT = 30
"""Seconds beyond its drains that a guard may take to end."""
_EVENTS = {
    "drain": "the last requests to the former release have ended",
    "taken": "the guard of an interrupted run has cleaned up",
}
"""What the guard is at work on, by the first word of its task."""
_OUTLIVED = 15
"""Seconds beyond `drain` that an abandoned run, whose controller is gone, may take to end."""


class Until:
    """The task of a run's guard, in /run/NAME/ctl/probation/until.

    Empty: a run is at work. `TIME`: watch the release until then. `taken TIME`: finish or undo the run, which died.
    `drain TIME`: stop the old slot. `done`: nothing. TIME: hundredths of seconds since boot.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    @property
    def text(self) -> str:
        """The text of the file; empty if it cannot be read."""
        try:
            return self._folder.read("until", 200).decode("ascii", "replace").strip()
        except OSError:
            return ""

    @property
    def time(self) -> float:
        """The end of the probation, by the clock of `now`; 0 without one."""
        text = self.text
        return int(text) / 100 if text.isdigit() else 0

    def write(self, text: str) -> None:
        """Write the file in place: a full /run has no room for a second one."""
        self._folder.overwrite("until", f"{text}\n".encode() if text else b"", 0o644)

    def begin(self, word: str, seconds: float = 0) -> None:
        """Write a word, if any, and the time that is `seconds` from now."""
        self.write(f"{word} {round((now() + seconds) * 100)}".lstrip())

    def finish(self) -> None:
        """Write that nothing is left to do. If that fails, the guard finds by itself that nothing is left."""
        with suppress(OSError):
            self.write("done")


class ChangeLock:
    """The change lock of one service, `lock/activate`, and the task of its guard."""

    def __init__(self, run: Run, service: Service) -> None:
        self._run, self._service = run, service
        self.since = 0.0
        """The time since which we hold the lock, by the host's clock."""
        self.control = Folder.open(f"/run/{service.name}/ctl")
        self.control.make("probation", 0o755)
        self.folder = self.control.below("probation")
        self.until = Until(self.folder)
        self.activate = opened(service.name, "activate")

    def take(self, action: str, release: str) -> None:
        """Take the lock; Busy, with the holder's line, if another run has it.

        Wait for an abandoned run, and end it at last.
        """
        if not (self._take_free() or self._wait_for_guard() or self._await_or_end_abandoned()):
            raise self.activate.refusal()
        self.write_holder(action, release)

    def take_alone(self, action: str, release: Callable[[], str]) -> None:
        """Take the lock for a verb outside of any run, which ends no run and is ended by none.

        release: called once the lock is held.
        """
        if not (self._take_free() or self._wait_for_guard()):
            raise self.activate.refusal()
        self.activate.write(self._run.holder(action, release(), 0))

    def write_holder(self, action: str, release: str) -> None:
        """Write our run into the lock, with its process group, which may be ended once our controller is gone."""
        self.since = time.time()
        self.activate.write(self._run.holder(action, release, os.getpgrp()))

    @property
    def guarded(self) -> bool:
        """True if a guard is at work."""
        with Lock(self._service.name, "guard") as guard:
            return guard.held

    @property
    def _patience(self) -> float:
        return 2 * self._service.drain + self._service.grace + _GUARD_WAIT

    def _take_free(self) -> bool:
        """Take the lock if it is free; if its last run died, let the guard of that run take it first."""
        if not self.activate.take():
            return False
        if self.until.text or not self.guarded:
            return True
        self.activate.free()
        self._run.say("recover", f"waiting until {_EVENTS['taken']}")
        with Lock(self._service.name, "guard") as guard:
            guard.take_within(self._run, self._patience)
        return self.activate.take()

    def _wait_for_guard(self) -> bool:
        """Wait until the guard has ended a probation or stopped the former slot, then take the lock."""
        text = self.until.text
        if not text:
            return False
        if not self.guarded:
            # It may have ended since we found the lock held.
            return self.activate.take()
        self._run.say(
            "recover", f"waiting until {_EVENTS.get(text.partition(' ')[0], 'the guard has ended a probation')}"
        )
        return self.activate.take_within(self._run, self._patience)

    def _await_or_end_abandoned(self) -> bool:
        """Give an abandoned run time to end, and then end it; return whether we hold the lock.

        The caller holds the run lock, so no other controller is there.
        """
        group = activity.group_of(self.activate.read())
        # A process of another user is no run of ours: ending the group would not free the lock.
        if not group or group == os.getpgrp() or self.activate.foreign_holder:
            return False
        self._run.say("wait", "an abandoned run comes to its end")
        if self._take_within(self._service.drain + _OUTLIVED):
            return True
        self._run.say("wait", "the abandoned run did not end in time: ending it by a signal")
        self.activate.end_holders(signal.SIGTERM, group)
        if self._take_within(self._service.drain + _OUTLIVED):
            return True
        self.activate.end_holders(signal.SIGKILL, group)
        return self._take_within(5)

    def _take_within(self, seconds: float) -> bool:
        return self.activate.take_within(self._run, seconds, aloud=True)
