"""Started by systemd beside a run, as the deploy account: first the guard of the run, then the watch of its release.

Should the run be killed, what it has committed is finished, and what it has not is taken back. On probation the former
release is still up, and what fails is taken back to it; what holds is committed. A boot in this time is the way back as
well: `current` has not moved. What is to be done stands in `until` (see `turns.Until`).
"""

from __future__ import annotations

import os

from . import prune, service, units
from .gate import processes
from .locks import Lock
from .run import Ended, Failed, Interrupted, Refused, Run, now
from .slots import other
from .trial import Trial

_FOREVER = 7 * 86400
_YIELDED = 60
"""Seconds in which a run that holds the lock ends."""
_PAUSE = 0.5
"""Seconds between two looks."""
_ANSWER = 5
"""Seconds that an answer may take."""
_MOST = 4
"""Two points for a miss, one less for an answer: two misses in a row are too many, or every second answer."""

GUARDING, WATCHING, UNDOING, DRAINING, OVER = "guarding", "watching", "undoing", "draining", "over"


def perform(run: Run) -> None:
    """From before the start of the candidate to the end of the old slot."""
    run.in_words = True
    # Held for as long as this lasts: who wants to know the end waits for it.
    with Lock(run.step["name"], "guard") as lock:
        lock.wait(run, _FOREVER)
        guard = Guard(run)
        try:
            guard.perform()
        except Exception as error:
            run.leave()
            raise Ended(guard.leave(error)) from None


class Guard(Trial):
    """The release in one slot. phase: what is being done, which decides what the end of this means."""

    def __init__(self, run: Run) -> None:
        super().__init__(run, service.of(run.step), "probation")
        self.new = os.environ["SLOT"]
        self.old = other(self.new)
        if not self.slots.release(self.old):
            # The first release of a host comes after none.
            self.old = ""
        self.phase = GUARDING

    def perform(self) -> None:
        """Wait for the run, and do what it has left."""
        turns = self.turns
        # A step breaks once: systemd begins this again, and then it goes on.
        turns.folder.overwrite("run", self.run.framed(self.run.step, breaks=False), 0o600)
        turns.activate.wait(self.run, _FOREVER)
        if not self.committed:
            if self._on_probation():
                turns.activate.free()
                self.phase = WATCHING
                self.judge()
                self._watch(turns.until.time)
                turns.activate.wait(self.run, _FOREVER)
            elif turns.until.text.partition(" ")[0] in {"", "taken"}:
                self._take_back()
            else:
                # The run undid it, or another has ended the trial.
                return
        turns.occupy(self.step["action"], self.release)
        if turns.until.text == "done":
            return
        self._finish()

    def _on_probation(self) -> bool:
        """Whether the run has done its part, and this release is to be watched."""
        return bool(self.turns.until.time) and self.slots.live == self.new

    def _take_back(self) -> None:
        """The run is dead, and had not committed."""
        self.turns.occupy(self.step["action"], self.release)
        self.turns.until.begin("taken")
        if not self.slots.current:
            self.old = ""
        self.switched = self.slots.live == self.new
        self.phase = UNDOING
        raise Failed("its run was killed on this host")

    def _watch(self, end: float) -> None:
        """To the end of the probation, and beyond it while something is in doubt: as in the beginning."""
        seen, missed = processes(self.probe, self.new), 1
        while now() < end or missed:
            self.run.point("probation.watch")
            if not seen.look():
                missed = self._miss(missed, "systemd does not answer")
            elif not seen.same_main:
                # Of the account that both slots have, whoever served before may have sent it.
                whom = ": a signal has ended it. If the release before it did that, deploy with --stop-first"
                raise Failed(f"its main process died, or was stopped{whom if seen.result == 'signal' else ''}")
            elif not seen.same:
                raise Failed("a worker died")
            answer = self.probe.slot(self.new, _ANSWER)
            missed = max(0, missed - 1) if answer.well else self._miss(missed, answer.why)
            self.run.pause(_PAUSE)

    @staticmethod
    def _miss(missed: int, why: str) -> int:
        if missed + 2 >= _MOST:
            raise Failed(f"its health check did not hold: {why}")
        return missed + 2

    def _finish(self) -> None:
        """Whoever died after the commit, run or watch, is finished here."""
        until = self.turns.until
        if until.text.startswith("drain"):
            # All the rest was done by the run.
            self.phase = DRAINING
        else:
            if not until.text:
                until.begin("taken")
            self.phase = WATCHING
            self.commit()
            self.follow_up()
            self.watch_processes()
        self._retire()
        prune.prune(self.run, self.root)
        until.finish()
        self.turns.folder.remove("run")

    def _retire(self) -> None:
        """Nobody new comes to the old slot: it may take as long as its last requests do."""
        if self.old:
            self.run.say("drain", f"slot {self.old}")
            self.slots.drain(self.old)
            ended = units.show(self.service.slot(self.old), "ActiveState", "NRestarts")
            failed = ended.get("ActiveState") == "failed"
            if failed:
                told = f"slot {self.old} did not end in good order: it had failed, or it had to be killed"
                self.run.report("warning", told)
            if failed or ended.get("NRestarts", "0") not in {"", "0"}:
                # As failed it would look like something to recover, and its restarts would count for what starts next.
                self.slots.forget_starts(self.old).wait()
        self.run.point("probation.stopped")
        with self.run.surely():
            self.slots.end_try(self.new)
        self.phase = OVER
        self.run.point("probation.drained")

    # The way out

    def leave(self, error: Exception) -> int:
        """What is committed is finished, and what is not is taken back; the exit status."""
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
            self._leave_trial(ended=ended)
        return 129 if ended else 1

    def _leave_trial(self, *, ended: bool) -> None:
        """Of a release on probation. ended: by somebody who goes on from here: the next run, a stop, or a shutdown."""
        if self.committed and ended:
            # Who stops the whole service must not see it started again.
            self.record_commit()
        elif self.committed:
            self.follow_up()
            self._retire()
        elif ended or self.phase == GUARDING:
            # While the host shuts down systemd moves nothing: that is the way back as well.
            self._move_back()
            self.record("ended", "its probation was ended before its time: by another run, a stop or a reboot")
        else:
            self._give_up()

    def _move_back(self) -> bool:
        back = self.lead_back()
        self.run.point("probation.returned")
        if back:
            with self.run.surely():
                self.slots.end_try(self.new)
        return back

    def _give_up(self) -> None:
        """First the traffic, which needs nobody's leave; then, unless another run has begun, the slot."""
        if units.states(self.service.slot(self.old)) != ["active"]:
            # Somebody may have stopped what this goes back to.
            self.start_former()
        if not self._move_back():
            self.record("failed", self.why)
            return
        self.record("returned", self.why)
        back = self.slots.committed
        print(f"release {self.release} did not hold: {self.why}. The traffic is back on {back}", flush=True)  # noqa: T201
        # A run that holds the lock may be stopping this unit: heed signals again, or the two wait for each other.
        self.run.listen()
        try:
            if not self.turns.activate.wait(self.run, _YIELDED):
                return
        finally:
            self.run.leave()
        self.slots.end(self.new)
