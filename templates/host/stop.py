"""Stop the service: the slots after they have drained, then everything else of it."""

from __future__ import annotations

from .outside_run import Lone
from .run import Run, now
from .slots import SLOTS, STOP_MARGIN
from .units import systemctl


def perform(run: Run) -> None:
    """Stop all units, and disable them if asked. `steps.stop` of the controller has the step's keys."""
    lone = Lone(run, "stop", "there is nothing to stop")
    _end_probation(lone)
    run.point("stop.live")
    end = now() + lone.service.drain
    for slot in SLOTS:
        lone.slots.await_queue(slot, end)
    lone.record("started")
    run.point("stop.stop")
    _stop(run, lone)
    run.point("stop.stopped")
    if run.step["disable"]:
        # The sockets too: the first request after a boot would start the service.
        disabled = systemctl("disable", *lone.service.enabled).wait()
        lone.slots.require(disabled, "the service is stopped, and a boot would start it: it cannot be disabled")
    lone.record("done")
    run.say("stopped", lone.service.name)


def _end_probation(lone: Lone) -> None:
    """Give up a release on probation: a start brings back the committed one."""
    ended = systemctl("stop", *map(lone.service.watch, SLOTS)).wait()
    lone.slots.require(ended, "the watch of the release on probation cannot be stopped")
    if lone.slots.live != lone.slot:
        lone.slots.move_traffic(lone.slot)


def _stop(run: Run, lone: Lone) -> None:
    """Stop the units in one transaction of systemd; kill slots that postpone their stop."""
    stopping = systemctl("stop", *run.step["units"])
    # The stop of a process may have longer than that of a slot; systemd ends it then.
    bound = max(lone.slots.bound, *(process.stop + STOP_MARGIN for process in lone.service.processes))
    late = lone.slots.await_end(stopping, bound, *SLOTS)
    lone.slots.require(stopping.wait(), "the service cannot be stopped")
    if late:
        run.report("warning", f"the service did not stop within {bound} s, and was killed")
    for slot in SLOTS:
        # A slot that systemd was about to restart keeps its count. Usually there is none to reset.
        lone.slots.forget_starts(slot).wait()
