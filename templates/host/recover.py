"""Begin an activation or a before_activate: undo what an earlier one left, so that only the committed slot serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from . import run_units, units
from .process_units import ProcessUnits
from .run import Refused, Run
from .slot_names import SLOTS, other
from .slots import Slots
from .units import systemctl


class StartingPoint(NamedTuple):
    """The slots after a recovery. old: the committed slot, empty before the first release; new: the idle one.

    served: the release that had the traffic, committed or on probation; empty before the first.
    returned: whether the traffic had to come back, from a probation or from a run that died.
    old_state, main_unit_state: systemd's states of the old slot and of NAME.service.
    """

    old: str
    new: str
    served: str
    returned: bool
    old_state: str
    main_unit_state: str


def recover(run: Run, slots: Slots, processes: ProcessUnits, prefix: str) -> StartingPoint:
    """Stop the guards, give the traffic to the committed slot and end the idle one. prefix: of its failpoints."""
    return _Recovery(run, slots, processes, prefix).perform()


class _Recovery:
    """A recovery. old, new: see `StartingPoint`."""

    def __init__(self, run: Run, slots: Slots, processes: ProcessUnits, prefix: str) -> None:
        self._run, self._slots, self._processes, self._prefix = run, slots, processes, prefix
        # An operator who goes back, or said --stop-first, waits for no task of the idle slot.
        self._at_once = run.step.get("action") in {"rollback", "undo"} or bool(run.step.get("stop_first"))

    def perform(self) -> StartingPoint:
        """Recover; return the slots."""
        run, slots, prefix, service = self._run, self._slots, self._prefix, self._slots.service
        run.point(f"{prefix}.recover")
        self.old = slots.current
        self.new = other(self.old)
        live = slots.live
        served = slots.release(live or self.old)
        guards = [service.guard(slot) for slot in SLOTS]
        hooks = [service.hook(slot) for slot in SLOTS]
        idle = [process.of(self.new) for process in service.processes]
        old, main = service.slot(self.old or "none"), f"{service.name}.service"
        states = units.states(service.slot(self.new), *guards, old, main, *hooks, *idle)
        new_state, *watching, old_state, main_unit_state = states[:5]
        self._end_hooks(dict(zip(hooks, states[5:])))
        if watching != ["inactive", "inactive"]:
            # A guard would take the end of its slot for a failure.
            slots.require(systemctl("stop", *guards).wait(), "the guard of the release before cannot be stopped")
            systemctl("reset-failed", *guards).wait()
        self._return_traffic(live)
        returned = bool(self.old) and live == self.new
        run.point(f"{prefix}.returned")
        if returned:
            self._return_work()
        if new_state != "inactive" or slots.has_permit(self.new):
            self._stop_idle()
        if any(state != "inactive" for state in states[5 + len(hooks) :]):
            self._processes.end(self.new, at_once=self._at_once)
        run.point(f"{prefix}.idle")
        if self.old:
            slots.revoke_permit(self.old)
        slots.forget_links()
        return StartingPoint(self.old, self.new, served, returned, old_state, main_unit_state)

    def _end_hooks(self, hooks: Mapping[str, str]) -> None:
        """End a before_activate that outlived its run, if `stop_first`; else Refused while it still changes data."""
        going = [unit for unit, state in hooks.items() if state in {"activating", "deactivating"}]
        if going and self._run.step.get("stop_first"):
            self._run.say("stop", f"{' '.join(going)}, of an abandoned run")
            run_units.end(self._run, self._slots.service.name)
            for unit in going:
                systemctl("reset-failed", unit).wait()
            going = [unit for unit, state in zip(going, units.states(*going)) if state not in {"inactive", "failed"}]
        for unit in going:
            hook = f"before_activate of an abandoned run is still at work here, as {unit}"
            raise Refused(f"{hook}: wait for its end, or say --stop-first, which ends it")

    def _return_traffic(self, live: str) -> None:
        if self._slots.live != self.old:
            if self.old:
                self._run.say("recover", f"the traffic goes back to slot {self.old}")
            self._slots.move_traffic(self.old or "none")
        elif self.old and live == self.new:
            # The guard moved the traffic back when it was stopped.
            ended = self._slots.release(self.new)
            self._run.say("recover", f"the probation of {ended} is ended: slot {self.old} has the traffic")

    def _return_work(self) -> None:
        """Start the processes of the committed release again, if those of a release on probation had replaced them."""
        if self._at_once:
            self._processes.end(self.new, at_once=True)
        self._processes.replace(self.old, self.new)

    def _stop_idle(self) -> None:
        self._run.say("recover", f"slot {self.new} is stopped")
        # With stop_first the slot gets no time to harm the next release.
        self._slots.end(self.new, at_once=bool(self._run.step.get("stop_first")))
