"""Whose turn it is to change the slots of a service: one run at a time, and the guard of the run before it first."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from .folders import Folder
from .locks import Lock, opened
from .run import Run, now
from .service import Service

_GUARD_WAIT = 30
"""Seconds beyond its drains in which a guard comes to its end."""
_OUTLIVED = 15
"""Seconds beyond `drain` in which a run whose controller is gone comes to its end."""


class Until:
    """What the guard of a run is to do, in /run/NAME/ctl/probation/until.

    Empty: a run is at work. `TIME`: watch the release until then. `taken TIME`: finish or undo what a run left that
    died. `drain TIME`: stop the old slot. `done`: nothing. TIME: of this boot, in hundredths of seconds.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    @property
    def text(self) -> str:
        """The first word is empty, a time, `taken`, `drain` or `done`."""
        try:
            return self._folder.read("until", 200).decode("ascii", "replace").strip()
        except OSError:
            return ""

    @property
    def time(self) -> float:
        """The end of the probation, of `now`; 0 where there is none."""
        text = self.text
        return int(text) / 100 if text.isdigit() else 0

    def write(self, text: str) -> None:
        """In place: a full /run has no room for a second one."""
        self._folder.overwrite("until", f"{text}\n".encode() if text else b"", 0o644)

    def begin(self, word: str, seconds: float = 0) -> None:
        """Write a word, if any, and the time that it is in so many seconds."""
        self.write(f"{word} {round((now() + seconds) * 100)}".lstrip())

    def finish(self) -> None:
        """Nothing is left to do. A guard that reads anything else finds that out by itself."""
        with suppress(OSError):
            self.write("done")


class Turns:
    """The locks of one service, and what its guard is to do."""

    def __init__(self, run: Run, service: Service) -> None:
        self._run, self._service = run, service
        self.since = 0.0
        """Since when it is our turn, by the host's clock."""
        self.control = Folder.open(f"/run/{service.name}/ctl")
        self.control.make("probation", 0o755)
        self.folder = self.control.below("probation")
        self.until = Until(self.folder)
        self.activate = opened(service.name, "activate")

    def take(self, action: str, release: str) -> None:
        """Hold the lock of whoever changes a slot; Busy with the line of who has it.

        What a run that is gone has left is waited for, and in the end, ended.
        """
        if not (self._free() or self._after_the_watch() or self._outlive()):
            raise self.activate.refuse()
        self.occupy(action, release)

    def take_alone(self, action: str, release: Callable[[], str]) -> None:
        """Hold it for what belongs to no run: it ends nobody, and is ended by nobody. release: as it is by then."""
        if not (self._free() or self._after_the_watch()):
            raise self.activate.refuse()
        self.activate.write(self._run.holder(action, release(), 0))

    def occupy(self, action: str, release: str) -> None:
        """Say who is at work here, and of which processes, which may be ended when their controller is gone."""
        self.since = time.time()
        self.activate.write(self._run.holder(action, release, os.getpgrp()))

    @property
    def guarded(self) -> bool:
        """Whether a guard is there."""
        with Lock(self._service.name, "guard") as guard:
            return guard.held

    @property
    def _patience(self) -> float:
        return 2 * self._service.drain + self._service.grace + _GUARD_WAIT

    def _free(self) -> bool:
        """Of a run that has died its guard takes the lock next, and goes first."""
        if not self.activate.take():
            return False
        if self.until.text or not self.guarded:
            return True
        self.activate.free()
        self._run.say("recover", "what a run that has died left behind is put in order, which is waited for")
        with Lock(self._service.name, "guard") as guard:
            guard.wait(self._run, self._patience)
        return self.activate.take()

    def _after_the_watch(self) -> bool:
        """Wait for the end of a probation, or of the former slot, which is the host's own work, and nobody's run."""
        text = self.until.text
        if not text or not self.guarded:
            return False
        ends = "the last requests to the former release come to their end"
        what = ends if text.startswith("drain") else "a probation comes to its end"
        self._run.say("recover", f"{what}, which is waited for")
        return self.activate.wait(self._run, self._patience)

    def _outlive(self) -> bool:
        """Give a run whose controller is gone time to come to its end, and then end it.

        Whoever gets here holds the lock of the run, since then nobody else is alive.
        """
        group = _group(self.activate.read())
        # Somebody else's process is no run of ours, and does not end for it.
        if not group or group == os.getpgrp() or self.activate.stranger:
            return False
        self._run.say("wait", "a run whose controller is gone comes to its end")
        if self._wait(self._service.drain + _OUTLIVED):
            return True
        self._run.say("wait", "what it left hangs, and is ended")
        self.activate.end_holders(signal.SIGTERM, group)
        if self._wait(self._service.drain + _OUTLIVED):
            return True
        self.activate.end_holders(signal.SIGKILL, group)
        return self._wait(5)

    def _wait(self, seconds: float) -> bool:
        return self.activate.wait(self._run, seconds, aloud=True)


def _group(line: str) -> int:
    try:
        group = json.loads(line)["group"]
    except (ValueError, KeyError, TypeError):
        return 0
    return group if isinstance(group, int) and group > 0 else 0
