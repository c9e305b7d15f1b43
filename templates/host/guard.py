"""Guard one activation, until the old slot has ended: systemd starts this beside the run, as the deploy account.

If the run is killed, the guard finishes what was committed, or undoes what was not. During a probation it watches the
release: it commits one that stays healthy, and returns the traffic to the former release, still up, if it fails. A boot
in this time goes back, too: `current` has not moved. The file `until` has what is left to do: `change_lock.Until`.
"""

from __future__ import annotations

import os
import time

from . import memory, prune, service, units
from .attempt import Attempt
from .gate import web_processes
from .locks import Lock
from .probe import ANSWER
from .run import Ended, Failed, Interrupted, Refused, Run, now, printable
from .slot_names import other

_FOREVER = 7 * 86400
_YIELDED = 60
"""Seconds to wait for a run that holds the lock."""
_PAUSE = 0.5
"""Seconds between two checks."""
_MOST = 4
"""A release fails at this many points: +2 for a miss, -1 for a right answer.

So two misses in a row fail, and so does a miss every second time.
"""

GUARDING, WATCHING, UNDOING, DRAINING, OVER = "guarding", "watching", "undoing", "draining", "over"


def perform(run: Run) -> None:
    """Run from before the candidate's start to the end of the old slot."""
    run.in_words = True
    # Held as long as this runs: to learn the outcome, others wait for this lock.
    with Lock(run.step["name"], "guard") as lock:
        lock.take_within(run, _FOREVER)
        guard = Guard(run)
        try:
            guard.perform()
        except Exception as error:
            run.begin_ending()
            raise Ended(guard.finish_or_undo(error)) from None
        finally:
            # Free the change lock before the guard's: else a run could find no guard, and the change lock held.
            guard.change_lock.activate.free()


class Guard(Attempt):
    """The guard of the release in one slot.

    phase: decides how `finish_or_undo` ends the attempt; WATCHING lasts until all is done that follows from the commit
    """

    def __init__(self, run: Run) -> None:
        super().__init__(run, service.of(run.step), "probation")
        self.new = os.environ["SLOT"]
        self.old = other(self.new)
        if not self.slots.release(self.old):
            # The first release of this host.
            self.old = ""
        self.phase = GUARDING

    def perform(self) -> None:
        """Wait for the end of the run, then do what is left."""
        change_lock = self.change_lock
        if self.run.breaks:
            # Drop the failpoint: it breaks a step once, and systemd restarts the guard from this file.
            change_lock.folder.overwrite("run", self.run.framed(self.run.step, breaks=False), 0o600)
        change_lock.activate.take_within(self.run, _FOREVER)
        if not self.is_committed:
            if self._on_probation():
                change_lock.activate.free()
                self.phase = WATCHING
                self.load_health_check()
                self._watch(change_lock.until.time)
                change_lock.activate.take_within(self.run, _FOREVER)
            elif change_lock.until.text.partition(" ")[0] in {"", "taken"}:
                self._take_back()
            else:
                # The run has undone it, or another run has ended the attempt.
                return
        change_lock.write_holder(self.step["action"], self.release)
        if change_lock.until.text == "done":
            return
        self._finish()

    def _on_probation(self) -> bool:
        """Return True if the run has begun the probation of this release."""
        return bool(self.change_lock.until.time) and self.slots.live == self.new

    def _take_back(self) -> None:
        """Raise Failed for a run killed before its commit: `finish_or_undo` then undoes it."""
        self.change_lock.write_holder(self.step["action"], self.release)
        self.change_lock.until.begin("taken")
        if not self.slots.current:
            self.old = ""
        self.switched = self.slots.live == self.new
        self.phase = UNDOING
        raise Failed("the run was killed on this host")

    def _watch(self, end: float) -> None:
        """Watch until the probation is over and no points are left. One point is there at first: a check must pass."""
        self.replace_processes()
        seen, points, since = web_processes(self.probe, self.new), 1, time.time()
        while now() < end or points:
            self.run.point("probation.watch")
            if not seen.ask_systemd():
                points = self._miss(points, "systemd does not answer")
            elif not seen.same_main:
                signalled = seen.result == "signal"
                # Both slots have one account, so the former release may have sent the signal.
                hint = ": a signal has ended it. If the former release sent the signal, deploy with --stop-first"
                why = memory.fault(self.service.slot(self.new), since, signalled=signalled)
                why = why or (hint if signalled else "")
                raise Failed(f"the main process of the release died, or was stopped{why}")
            elif not seen.all_there():
                raise Failed(f"a worker died{memory.fault(self.service.slot(self.new), since, signalled=True)}")
            self.processes.require_well(self.new, self.release)
            answer = self.probe.slot(self.new, ANSWER)
            points = max(0, points - 1) if answer.well else self._miss(points, answer.why)
            self.run.pause(_PAUSE)

    @staticmethod
    def _miss(points: int, why: str) -> int:
        if points + 2 >= _MOST:
            raise Failed(f"the health check of the release did not hold: {why}")
        return points + 2

    def _finish(self) -> None:
        """Finish an attempt that is committed, or that held: also if the run or an earlier guard was killed."""
        until = self.change_lock.until
        if until.text.startswith("drain"):
            # The run has done all but the drain.
            self.phase = DRAINING
        else:
            if not until.text:
                until.begin("taken")
            self.phase = WATCHING
            self.commit()
            self.follow_up()
        self._retire()
        prune.prune(self.run, self.root)
        until.finish()
        self.change_lock.folder.remove("run")

    def _retire(self) -> None:
        """Drain and stop the old slot, which gets no new requests."""
        if self.old:
            self.run.say("drain", f"slot {self.old}")
            self.slots.drain(self.old)
            ended = units.show(self.service.slot(self.old), "ActiveState", "NRestarts")
            failed = ended.get("ActiveState") == "failed"
            if failed:
                warning = f"slot {self.old} did not end in good order: it had failed, or it had to be killed"
                self.run.report("warning", warning)
            if failed or ended.get("NRestarts", "0") not in {"", "0"}:
                # Otherwise the next run would take the slot for one to recover, and the slot's restarts would count
                # against the next release there.
                self.slots.forget_starts(self.old).wait()
        self.run.point("probation.stopped")
        with self.run.report_errors_while_ending():
            self.slots.revoke_permit(self.new)
        self.phase = OVER
        self.run.point("probation.drained")

    # The way out

    def finish_or_undo(self, error: Exception) -> int:
        """Finish what is committed, or undo what is not; return the exit status."""
        ended = isinstance(error, Interrupted)
        self.why = self.run.why(error)
        if isinstance(error, Refused):
            self.run.report("refused", self.why)
        if self.phase == GUARDING and not self._on_probation():
            self.phase = OVER
        if self.phase == UNDOING:
            self.undo()
        elif self.phase == DRAINING and not ended:
            self._retire()
        elif self.phase in {GUARDING, WATCHING}:
            self._end_probation(ended=ended)
        return 129 if ended else 1

    def _end_probation(self, *, ended: bool) -> None:
        """End a probation, or what follows its commit. ended: by a signal of the next run, a stop or a shutdown."""
        if self.is_committed and ended:
            # This may be a stop of the whole service: start nothing.
            self.record_commit()
        elif self.is_committed:
            self.follow_up()
            self._retire()
        elif ended:
            # During a shutdown systemd moves no link; then the boot goes back.
            self._move_back()
            self.record("ended", "the probation was ended before its time: by another run, a stop or a reboot")
        else:
            self._return_to_former()

    def _move_back(self) -> bool:
        back = self.restore_traffic()
        self.run.point("probation.returned")
        if back:
            with self.run.report_errors_while_ending():
                self.slots.revoke_permit(self.new)
        return back

    def _return_to_former(self) -> None:
        """Return the traffic, which needs no lock; then, unless another run has begun, stop the slot."""
        if units.states(self.service.slot(self.old)) != ["active"]:
            # An operator may have stopped the former slot.
            self.start_former()
        if not self._move_back():
            self.record("failed", self.why)
            return
        self.record("returned", self.why)
        former = self.slots.committed
        said = f"release {self.release} did not hold: {self.why}. The traffic is back on {former}"
        print(printable(said), flush=True)  # noqa: T201
        self.give_back()
        # A run that holds the lock may be stopping this unit: accept signals again, or that run and this
        # guard wait for each other.
        self.run.listen()
        try:
            if not self.change_lock.activate.take_within(self.run, _YIELDED):
                return
        finally:
            self.run.begin_ending()
        self.slots.end(self.new)
