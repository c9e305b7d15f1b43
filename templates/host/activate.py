"""Start the staged release in the idle slot, check it, move the traffic, and commit it, or leave that to its probation.

Whatever ends this before, what served is put back: `Activation.leave` is the one place where that is decided.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress

from . import by_hand, door, program, release, service, units, venv
from .folders import Folder
from .gate import Gate
from .recover import Ground
from .run import Ended, Failed, Interrupted, Moved, Refused, Run, now
from .trial import Trial
from .units import Child, systemctl

_COUNTED = 60
"""Seconds for which systemd counts the starts of a unit."""
_PATIENCE = 5
"""Seconds in which a guard starts, and in which the front door answers."""
_AGAIN = "run the deploy of its content again"


def perform(run: Run) -> None:
    """The whole of it. From the first change on, how it ended is reported here."""
    activation = Activation(run)
    if activation.came_back():
        return
    activation.check_release()
    activation.choose_probation()
    activation.write_guard()
    activation.keep_step()
    try:
        activation.go()
    except Exception as error:
        run.leave()
        raise Ended(activation.leave(error)) from None


class Activation(Trial):
    """One release on its way, as the run itself brings it there."""

    def __init__(self, run: Run) -> None:
        stage = "undo" if run.step["action"] == "undo" else "activate"
        super().__init__(run, service.of(run.step), stage)
        self.turns.take(self.step["action"], self.release)
        run.point(f"{stage}.begin")
        self._ground = Ground(run, self.slots, stage)
        self.old, self.new = self._ground.old, self._ground.new
        self.facade_state = self._ground.facade_state
        self._path = f"{self.service.root}/releases/{self.release}"
        self._begun = self._handed_over = False
        self._started = self._silent_since = 0.0
        self._posting: Child | None = None
        self.serves = self.slots.release(self.old)
        self._expect()
        self.judge()

    def _expect(self) -> None:
        """The committed release must be what the plan saw, before or after the end of a probation."""
        self.run.report("before", self.serves)
        self.run.report("served", self._ground.served)
        if self.serves not in self.step["expect"]:
            raise Moved(self.serves)

    def came_back(self) -> bool:
        """What was asked for is the committed release, up all the while: the traffic is back, and that is all."""
        wanted = self._ground.returned and self.release == self.serves and self.step["action"] != "restart"
        if not (wanted and self.probe.slot(self.old, _PATIENCE).well and self.probe.front(_PATIENCE).well):
            return False
        self.record("started")
        self.record("done")
        self.run.say("committed", self.release)
        return True

    def check_release(self) -> None:
        """It is there, whole, and can run."""
        name = self.release
        try:
            folder = Folder.open(self._path)
        except OSError:
            raise Refused(f"release {name} is not on this host") from None
        with folder:
            if folder.status("MANIFEST") is None:
                # Of a former deploy account (see `handover`): what serves goes on serving, and nothing else does.
                if self.step["action"] not in {"restart", "undo"}:
                    told = "has no list of its files: a former deploy account put it there, or somebody took that away"
                    raise Refused(f"release {name} {told}; {_AGAIN}")
            elif not release.holds(folder, "MANIFEST", "code/"):
                raise Refused(f"release {name} is damaged on this host: {_AGAIN}")
            if folder.status("LAUNCHERS") and not release.holds(folder, "LAUNCHERS"):
                raise Refused(f"how release {name} is started was edited on this host: {_AGAIN}")
        if not venv.whole(f"{self._path}/venv"):
            raise Refused(self._venv_broken)

    @property
    def _venv_broken(self) -> str:
        return f"the venv of release {self.release} is damaged, or its Python is gone: {_AGAIN}"

    def choose_probation(self) -> None:
        """Nothing can be watched against a former release that is not there, or not up."""
        missing = ""
        if not self.old:
            missing = "no former release"
        elif self._ground.old_state != "active":
            self.run.say("recover", "the service is stopped, and is started by this")
            missing = "no former release that is up"
        elif self.step["stop_first"]:
            missing = "no former release that is still up"
        self._probation: int = 0 if missing else self.step["probation"]
        if missing and self.step["probation"]:
            self.run.say("probation", f"none: there is {missing} to go back to, so it is committed at once")

    def write_guard(self) -> None:
        """What its guard runs, as the unit in /etc/systemd/system calls it: this program, as it is kept here."""
        try:
            path = program.keep(self.run, self.service.root, self.run.sources)
        except OSError:
            # A full disk is no reason not to go back.
            path = program.keep(self.run, self.turns.folder.path, self.run.sources)
        self.turns.folder.overwrite("script", f"exec {sys.executable} -I -S {path}/__main__.py\n".encode(), 0o644)

    def keep_step(self) -> None:
        """For who has to do the next one by hand."""
        with suppress(OSError), Folder.open(f"{self.service.root}/{program.PLACE}") as folder:
            folder.overwrite(by_hand.LAST, (json.dumps(self.step, indent=2) + "\n").encode(), 0o600)

    def go(self) -> None:
        """From the first change to the last."""
        self.run.point(f"{self.stage}.trapped")
        gate = Gate(self.run, self.probe, self.new, former=bool(self.old))
        self._start_candidate(gate)
        self._await_posting()
        self.run.point(f"{self.stage}.guarded")
        gate.hold(self._started)
        self.run.point(f"{self.stage}.held")
        door.check(self.run, self.probe, self.new, self.serves, self.stage)
        self._await_guard()
        self._switch()
        if self._probation:
            self._begin_probation()
        else:
            self.commit()
            self.follow_up()
            self.watch_processes()
            self._hand_over()

    # The candidate

    def _start_candidate(self, gate: Gate) -> None:
        self.run.say("start", f"slot {self.new}")
        self._started = now()
        with self.root.below("slots") as slots:
            slots.make(self.new, 0o755)
            with slots.below(self.new) as slot:
                slot.overwrite(f"is-{self.new}", b"", 0o644)
        self.record("started")
        self._begun = True
        self.run.point(f"{self.stage}.intent")
        # What was placed in the future counts as just now.
        recent = self.slots.placed_ago(self.new) <= _COUNTED
        self.slots.relink(f"../../releases/{self.release}", f"slots/{self.new}", "release")
        self.run.point(f"{self.stage}.placed")
        self.slots.try_slot(self.new)
        if recent:
            self.slots.forget_starts(self.new).wait()
        self.run.point(f"{self.stage}.start")
        self._post_guard()
        self._stop_former()
        self.run.point(f"{self.stage}.posted")
        if not self.slots.start(self.new):
            raise self._not_started(gate)
        self.run.point(f"{self.stage}.started")

    def _post_guard(self) -> None:
        """Should this be killed, the host finishes what is committed, and takes back what is not."""
        self.turns.until.write("")
        self.turns.folder.overwrite("run", self.run.framed({**self.step, "step": "guard"}), 0o600)
        self._posting = systemctl("start", self.service.watch(self.new))

    def _await_posting(self) -> None:
        if self._posting and not self._posting.wait():
            raise Failed("its guard did not start")
        self._posting = None

    def _await_guard(self) -> None:
        end = time.monotonic() + _PATIENCE
        while not self.turns.guarded:
            if time.monotonic() >= end:
                raise Failed("its guard did not start")
            self.run.heed()
            time.sleep(0.02)

    def _stop_former(self) -> None:
        """Before its successor starts, which it could end: they are of one account, as are its workers and jobs.

        The guard is there by now, and starts it again should this be killed.
        """
        if not (self.step["stop_first"] and self.old):
            return
        self._await_posting()
        self._await_guard()
        beside, timers = self.step["companions"], self.step["timers"]
        if beside and not units.allowed("stop", *beside, *timers):
            # Rules that an older version wrote know the slots alone.
            told = "sudo does not know all that --stop-first needs: fab setup writes the rules. Nothing was stopped"
            raise Failed(told)
        self.run.say(
            "stop", f"slot {self.old}, before slot {self.new} starts: nobody is answered until that has the traffic"
        )
        self._silent_since = now()
        self.slots.kill(self.old)
        stopped = self.slots.stop(self.old).wait()
        if beside:
            systemctl("kill", "-s", "KILL", *beside).wait()
            stopped = systemctl("stop", *beside, *timers).wait() and stopped
        self.slots.require(stopped, f"slot {self.old}, or a process beside it, cannot be stopped")
        self.slots.forget_starts(self.old).wait()
        self._started = now()

    def _not_started(self, gate: Gate) -> Failed:
        """Of what fails to start, the reason that an operator can do something about."""
        limit = self.service.health.start_timeout
        if now() - self._started >= limit:
            told = (
                f"slot {self.new} was not ready within {limit} s of its start: health.timeout is too short, or it hangs"
            )
            return Failed(told)
        if gate.look() == "signal":
            return gate.ended(f"slot {self.new} did not start")
        why = "" if venv.whole(f"{self._path}/venv") else f": {self._venv_broken}"
        return Failed(f"slot {self.new} did not start{why}")

    # The traffic

    def _switch(self) -> None:
        self.run.point(f"{self.stage}.checked")
        self.run.say("switch", f"slot {self.new} takes the traffic")
        self.switched = True
        name, listen = self.service.name, self.service.front.listen
        self.slots.lead(self.new)
        self.run.point(f"{self.stage}.switch")
        if listen and not systemctl("start", f"{name}-listen.socket").wait():
            raise Failed(f"nothing can listen at {listen}: is it taken, or no address of this host?")
        door.require(self.probe.front(_PATIENCE))
        if self._silent_since:
            self.run.say("switch", f"nobody was answered for {int(now() - self._silent_since + 0.99)} s")
        self.run.point(f"{self.stage}.front")

    def _begin_probation(self) -> None:
        """From here on the host watches by itself, and goes back by itself: nobody has to be there."""
        seconds = self._probation
        told = f"for {seconds} s slot {self.old} stays up, and the host goes back to it if this one fails"
        self.run.say("probation", told)
        self.record("probation")
        self.run.point("activate.probation")
        self.turns.until.begin("", seconds)
        self._handed_over = True
        # It has waited for this lock, and is not to wait for a run that hangs here.
        self.turns.activate.free()
        self.run.point("activate.watching")
        self.run.report("probation", str(seconds))

    def _hand_over(self) -> None:
        """The release serves, and is committed. Its guard has the time to let the old slot drain, and to make room."""
        if self.old:
            self.run.say("drain", f"slot {self.old}, which the host does by itself")
        self.run.point(f"{self.stage}.handover")
        self.turns.until.begin("drain")
        self._handed_over = True

    # The way out

    def leave(self, error: Exception) -> int:
        """What is committed is finished, and what is not is taken back; the exit status."""
        status = 129 if isinstance(error, Interrupted) else 1
        if isinstance(error, Refused):
            self.run.report("refused", error.text)
        if self._handed_over:
            return status
        self.why = self.run.why(error)
        if self.committed:
            # No way back: what is left to do is done, or workers would stay with the old release.
            self.follow_up()
            with self.run.surely():
                self._hand_over()
        elif self._begun:
            self.undo()
            self._report_journal()
            self.turns.until.finish()
        self.run.report("failed", self.why)
        return status

    def _report_journal(self) -> None:
        # A little earlier, since two clocks are read one after the other.
        since = time.time() - (now() - self._started) - 0.02
        units.said(self.run, self.service.slot(self.new), "-n", "200", "--since", f"@{since:.2f}")
