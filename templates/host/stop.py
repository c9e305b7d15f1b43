"""Stop the service: wait until no connection waits at a slot, then stop all units; running requests get `drain` s."""

from __future__ import annotations

from . import run_units
from .outside_run import OutsideRun
from .run import Run, now
from .slot_names import SLOTS
from .slots import STOP_MARGIN
from .units import systemctl


def perform(run: Run) -> None:
    """Stop all units, and disable them if asked. `steps.stop` of the controller has the step's keys."""
    verb = OutsideRun(run, "stop", "there is nothing to stop")
    _end_probation(verb)
    run.point("stop.live")
    end = now() + verb.service.drain
    for slot in SLOTS:
        verb.slots.await_queue(slot, end)
    verb.record("started")
    run.point("stop.stop")
    _stop(run, verb)
    run.point("stop.stopped")
    if run.step["disable"]:
        # The sockets too: the first request after a boot would start the service.
        disabled = systemctl("disable", *verb.service.enabled).wait()
        verb.slots.require(disabled, "the service is stopped, and a boot would start it: it cannot be disabled")
    verb.record("done")
    run.say("stopped", verb.service.name)


def _end_probation(verb: OutsideRun) -> None:
    """Give up a release on probation: a start brings back the committed one."""
    ended = systemctl("stop", *map(verb.service.guard, SLOTS)).wait()
    verb.slots.require(ended, "the guard of the release on probation cannot be stopped")
    if verb.slots.live != verb.slot:
        verb.slots.move_traffic(verb.slot)


def _stop(run: Run, verb: OutsideRun) -> None:
    """Stop the units in one transaction of systemd; kill slots that postpone their stop."""
    stopping = systemctl("stop", *run.step["units"])
    # A process may take longer to stop than a slot; systemd kills it at its own limit.
    bound = max([verb.slots.bound, *(process.stop + STOP_MARGIN for process in verb.service.processes)])
    late = verb.slots.await_end(stopping, bound, *SLOTS)
    verb.slots.require(stopping.wait(), "the service cannot be stopped")
    ended = run_units.end(run, verb.service.name)
    if verb.service.timers:
        # The jobs that the timers have started; systemd kills each at its own limit. Sudo allows this command alone.
        ended = systemctl("stop", *run.step["other_services"], *verb.service.timers).wait() and ended
    verb.slots.require(ended, "the service is stopped, but not what runs beside it: see systemctl list-units")
    if late:
        run.report("warning", f"the service did not stop within {bound} s, and was killed")
    for slot in SLOTS:
        # A slot that systemd was about to restart keeps its count. Usually there is none to reset.
        verb.slots.forget_starts(slot).wait()
