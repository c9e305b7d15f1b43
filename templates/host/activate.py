"""Start the staged release in the idle slot, check it, switch the traffic to it, and commit it or begin a probation.

If a failure or a signal ends this before the commit or the probation begins, `Activator.finish_or_undo` brings the
former release back. After a kill the guard does that; after a power cut, the boot and the next run (`recover`).
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress

from . import by_hand, front_door, kept_copies, release, run_units, service, static_files, units, venv
from .attempt import Attempt
from .folders import DISK_ERRORS, Folder
from .gate import Gate
from .probe import ANSWER
from .recover import recover
from .run import Ended, Failed, Interrupted, Moved, Refused, Run, now
from .units import Child, systemctl

_COUNTED = 60
"""Seconds: the interval in which systemd counts the starts of a unit."""
_GUARD_START = 5
"""Seconds a guard may take to start."""
_AGAIN = "deploy that content again"


def perform(run: Run) -> None:
    """Run the step. `finish_or_undo` handles a failure in `go`, and only that.

    Before `go`, `recover` may move traffic and stop a slot: it undoes what an earlier run left.
    """
    activator = Activator(run)
    if activator.finish_if_serving():
        return
    # Beside the check of the release: sudo takes as long as that.
    activator.begin_to_forget_starts()
    activator.check_release()
    activator.choose_probation()
    activator.write_guard()
    activator.save_step()
    try:
        activator.go()
    except Exception as error:
        run.begin_ending()
        raise Ended(activator.finish_or_undo(error)) from None


class Activator(Attempt):
    """The activation as the run itself performs it; `guard.Guard` is the other subclass."""

    def __init__(self, run: Run) -> None:
        prefix = "undo" if run.step["action"] == "undo" else "activate"
        super().__init__(run, service.of(run.step), prefix)
        self.change_lock.take(self.step["action"], self.release)
        run.point(f"{prefix}.begin")
        self._origin = recover(run, self.slots, self.processes, prefix)
        self.old, self.new = self._origin.old, self._origin.new
        self.main_unit_state = self._origin.main_unit_state
        self._path = f"{self.service.root}/releases/{self.release}"
        self._begun = self._handed_over = False
        self._started = self._processes_started = self._silent_since = 0.0
        self._posting: Child | None = None
        self._forgetting: Child | None = None
        self.serves = self.slots.release(self.old)
        self._expect()
        self.load_health_check()

    def _expect(self) -> None:
        """Raise Moved unless the committed release is one that the plan allows.

        It allows two if a probation was under way at planning.
        """
        self.run.report("before", self.serves)
        self.run.report("served", self._origin.served)
        if self.serves not in self.step["expect"]:
            raise Moved(self.serves)

    def finish_if_serving(self) -> bool:
        """If bringing the traffic back to the committed release was the whole task, record that and return True."""
        wanted = self._origin.returned and self.release == self.serves and self.step["action"] != "restart"
        if not (wanted and self.probe.slot(self.old, ANSWER).well and self.probe.front(ANSWER).well):
            return False
        self.record("started")
        self.record("done")
        self.run.say("committed", self.release)
        return True

    def begin_to_forget_starts(self) -> None:
        """Begin to reset systemd's count of the new slot's starts, if it may count any."""
        # A link placed "in the future", by a clock that was set back, counts as recent.
        if self.slots.placed_ago(self.new) <= _COUNTED:
            self._forgetting = self.slots.forget_starts(self.new)

    def check_release(self) -> None:
        """Raise Refused unless the release is on this host, undamaged, and able to run."""
        name = self.release
        try:
            with self.root.below("releases") as releases:
                folder = releases.below(name)
        except FileNotFoundError:
            raise Refused(f"release {name} is not on this host") from None
        except OSError:
            raise Refused(f"release {name} is no directory on this host: {_AGAIN}") from None
        with folder:
            if folder.status("MANIFEST") is None:
                # A former deploy account put it there (see `handover`): only a restart or an undo may start it.
                if self.step["action"] not in {"restart", "undo"}:
                    why = "has no list of its files: a former deploy account put it there, or the list was removed"
                    raise Refused(f"release {name} {why}; {_AGAIN}")
            elif not (release.all_match(folder, "MANIFEST", "code/") and release.has_site(folder)):
                raise Refused(f"release {name} is damaged on this host: {_AGAIN}")
            if folder.status("LAUNCHERS") and not release.all_match(folder, "LAUNCHERS"):
                raise Refused(f"the launchers of release {name} were edited on this host: {_AGAIN}")
        if not venv.whole(f"{self._path}/venv"):
            raise Refused(self._venv_broken)

    @property
    def _venv_broken(self) -> str:
        return f"the venv of release {self.release} is damaged, or its Python is gone: {_AGAIN}"

    def choose_probation(self) -> None:
        """Set the seconds of probation: none without a former release that is up, since there is no way back."""
        missing = ""
        if not self.old:
            missing = "no former release"
        elif self._origin.old_state != "active":
            self.run.say("recover", "the service is stopped; this run starts it")
            missing = "no former release that is up"
        elif self.step["stop_first"]:
            missing = "no former release that is still up"
        self._probation: int = 0 if missing else self.step["probation"]
        if missing and self.step["probation"]:
            self.run.say("probation", f"none: there is {missing} to go back to, so this run commits at once")

    def write_guard(self) -> None:
        """Write the script that the guard's unit in /etc/systemd/system runs: it starts a copy of this program."""
        try:
            path = kept_copies.keep(self.run, self.service.root, self.run.sources)
        except OSError:
            # A full disk must not prevent a rollback: use /run.
            path = kept_copies.keep(self.run, self.change_lock.folder.path, self.run.sources)
        self.change_lock.folder.overwrite("script", f"exec {sys.executable} -I -S {path}/__main__.py\n".encode(), 0o644)

    def save_step(self) -> None:
        """Save the step for `by_hand`, which repeats it without a controller."""
        with suppress(OSError), Folder.open(f"{self.service.root}/{kept_copies.FOLDER}") as folder:
            folder.overwrite(by_hand.LAST, (json.dumps(self.step, indent=2) + "\n").encode(), 0o600)

    def go(self) -> None:
        """Perform the activation, from the first change to the last."""
        self.run.point(f"{self.prefix}.trapped")
        gate = Gate(self.run, self.probe, self.new, former=bool(self.old))
        self._start_candidate(gate)
        gate.await_healthy(self._started)
        self.processes.await_up(self.new, self.release, self._processes_started)
        self.run.point(f"{self.prefix}.held")
        front_door.check(self.run, self.probe, self.new, self.serves, self.prefix)
        self._await_posting()
        self.run.point(f"{self.prefix}.guarded")
        self._await_guard()
        self._switch()
        if self._probation:
            self._begin_probation()
        else:
            self._check_single()
            self.commit()
            self.follow_up()
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
        self.run.point(f"{self.prefix}.intent")
        self.slots.relink(f"../../releases/{self.release}", f"slots/{self.new}", "release")
        self.run.point(f"{self.prefix}.placed")
        self._place_static_files()
        self.slots.permit_start(self.new)
        if self._forgetting:
            self._forgetting.wait()
        self.run.point(f"{self.prefix}.start")
        self._post_guard()
        self._stop_former()
        self.run.point(f"{self.prefix}.posted")
        if not self.slots.start(self.new):
            raise self._not_started(gate)
        self._processes_started = now()
        self.processes.start(self.new)
        self.run.point(f"{self.prefix}.started")

    def _place_static_files(self) -> None:
        """Let nginx serve the static files of the release with its slot.

        A full disk must not prevent a rollback, nor --stop-first from ending the release that fills the disk.
        """
        try:
            static_files.place(self.run, self.root, self.new, self.release)
        except OSError as error:
            spared = self.step["action"] in {"rollback", "undo"} or self.step["stop_first"]
            if not spared or error.errno not in DISK_ERRORS:
                raise
            static_files.empty(self.run, self.root, self.new)
            why = f"{error.strerror or error}: nginx serves no static files of this release; the application answers"
            self.run.report("warning", why)

    def _post_guard(self) -> None:
        """Start the guard, which finishes a committed activation and undoes any other if this run is killed."""
        self.change_lock.until.write("")
        self.change_lock.folder.overwrite("run", self.run.framed({**self.step, "step": "guard"}), 0o600)
        self._posting = systemctl("start", self.service.guard(self.new))

    def _await_posting(self) -> None:
        if self._posting and not self._posting.wait():
            raise Failed("the guard of this run did not start")
        self._posting = None

    def _await_guard(self) -> None:
        end = time.monotonic() + _GUARD_START
        while not self.change_lock.guarded:
            if time.monotonic() >= end:
                raise Failed("the guard of this run did not start")
            self.run.heed()
            time.sleep(0.02)

    def _stop_former(self) -> None:
        """If `stop_first`, stop the former release: it shares the candidate's account, so it could kill the candidate.

        The guard runs by now, and starts the former release again if this run is killed.
        """
        if not (self.step["stop_first"] and self.old):
            return
        self._await_posting()
        self._await_guard()
        beside, timers = self.step["other_services"], self.step["timers"]
        if beside and not units.allowed("stop", *beside, *timers):
            # The sudo rules of an older version cover only the slots.
            why = "sudo does not allow all that --stop-first needs: fab setup writes the rules. Nothing was stopped"
            raise Failed(why)
        effect = f"no request is answered until slot {self.new} has the traffic"
        self.run.say("stop", f"slot {self.old}, before slot {self.new} starts: {effect}")
        self._silent_since = now()
        self.slots.kill(self.old)
        stopping = self.slots.stop(self.old)
        self.slots.await_end(stopping, self.slots.bound, self.old)
        stopped = stopping.wait()
        if beside:
            systemctl("kill", "-s", "KILL", *beside).wait()
            stopped = systemctl("stop", *beside, *timers).wait() and stopped
        stopped = run_units.end(self.run, self.service.name) and stopped
        self.slots.require(stopped, f"slot {self.old}, or a process or command beside it, cannot be stopped")
        self.slots.forget_starts(self.old).wait()
        self._started = now()

    def _not_started(self, gate: Gate) -> Failed:
        """Return why the candidate did not start: the reason that an operator can act on."""
        limit = self.service.health.start_timeout
        if now() - self._started >= limit:
            cause = f"it hangs, or needs more: set health.timeout above {limit} in service.yaml, and run fab setup"
            why = f"slot {self.new} was not ready within {limit} s of its start: {cause}"
            return Failed(why)
        if gate.unit_result() in {"signal", "oom-kill"}:
            return gate.failure(f"slot {self.new} did not start")
        why = "" if venv.whole(f"{self._path}/venv") else f": {self._venv_broken}"
        return Failed(f"slot {self.new} did not start{why}")

    # The traffic

    def _switch(self) -> None:
        self.run.point(f"{self.prefix}.checked")
        self.run.say("switch", f"slot {self.new} takes the traffic")
        self.switched = True
        name, listen = self.service.name, self.service.front.listen
        self.slots.move_traffic(self.new)
        self.run.point(f"{self.prefix}.switch")
        if listen and not systemctl("start", f"{name}-listen.socket").wait():
            raise Failed(f"nothing can listen at {listen}: is the port taken, or the address not one of this host?")
        front_door.require(self.probe.front(ANSWER))
        if self._silent_since:
            self.run.say("switch", f"no request was answered for {int(now() - self._silent_since + 0.99)} s")
        self.run.point(f"{self.prefix}.front")

    def _check_single(self) -> None:
        """Without a probation: replace the processes, and check now those that the gate could not start."""
        self.replace_processes()
        self.processes.await_up(self.new, self.release, now(), single=True)

    def _begin_probation(self) -> None:
        """Begin the probation and end the run: the guard watches the release and goes back by itself."""
        seconds = self._probation
        what = f"for {seconds} s slot {self.old} stays up, and the host goes back to it if the new release fails"
        self.run.say("probation", what)
        self.record("probation")
        self.run.point("activate.probation")
        self.change_lock.until.begin("", seconds)
        self._handed_over = True
        # The guard waits for this lock: free it now, in case this run hangs below.
        self.change_lock.activate.free()
        self.run.point("activate.watching")
        self.run.report("probation", str(seconds))

    def _hand_over(self) -> None:
        """Leave it to the guard to drain the old slot and to prune."""
        if self.old:
            self.run.say("drain", f"slot {self.old}: the host does this by itself")
        self.run.point(f"{self.prefix}.handover")
        self.change_lock.until.begin("drain")
        self._handed_over = True

    # The way out

    def finish_or_undo(self, error: Exception) -> int:
        """Finish what is committed, or undo what is not; return the exit status."""
        status = 129 if isinstance(error, Interrupted) else 1
        if isinstance(error, Refused):
            self.run.report("refused", error.text)
        if self._handed_over:
            return status
        self.why = self.run.why(error)
        if self.is_committed:
            # Committed, so no way back: finish, or the workers would keep the old release.
            self.follow_up()
            with self.run.report_errors_while_ending():
                self._hand_over()
        elif self._begun:
            if self.processes.signalled and self.old and not self.step["stop_first"]:
                # The former release has the same account, so it may have sent the signal.
                self.run.report("killed", f"{self.step['action']} {self.release}")
            self.undo()
            self._report_journal()
            self.change_lock.until.finish()
        self.run.report("failed", self.why)
        return status

    def _report_journal(self) -> None:
        # 20 ms earlier: two clocks are read one after the other.
        since = time.time() - (now() - self._started) - 0.02
        unit = self.processes.failed or self.service.slot(self.new)
        units.report_journal(self.run, unit, "-n", "200", "--since", f"@{since:.2f}")
