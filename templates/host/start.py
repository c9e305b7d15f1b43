"""Start the committed release, and let it start at boot again."""

from __future__ import annotations

from . import units
from .outside_run import Lone
from .probe import ANSWER, Probe
from .run import Failed, Run, now
from .units import systemctl


def perform(run: Run) -> None:
    """Start the release, and wait until its health check passes."""
    lone = Lone(run, "start", "deploy one")
    # Use the release's own health check.
    probe = Probe(lone.service, lone.release)
    lone.record("started")
    run.point("start.enable")
    enabled = systemctl("enable", *lone.service.enabled).wait()
    lone.slots.require(enabled, "the service cannot be enabled, so a boot would not start it")
    run.point("start.start")
    # Usually there is no count to reset, so the result does not matter.
    lone.slots.forget_starts(lone.slot).wait()
    _start(run, lone)
    _await_health(run, lone, probe)
    run.point("start.started")
    lone.record("done")
    run.say("started", lone.release)


def _start(run: Run, lone: Lone) -> None:
    began, slot, main_unit = now(), lone.slot, f"{lone.service.name}.service"
    # The main unit brings the slots up, but may itself be up without them: start this slot by name, too.
    for unit in (main_unit, lone.service.slot(slot)):
        if lone.slots.start_unit(slot, unit):
            continue
        limit = lone.service.health.start_timeout
        if now() - began >= limit:
            raise _given_up(run, lone, Failed(f"release {lone.release} was not ready within {limit} s of its start"))
        # The output of systemd or sudo says why.
        lone.record("failed")
        raise Failed(f"{unit} did not start")


def _await_health(run: Run, lone: Lone, probe: Probe) -> None:
    began = now()
    while not (answer := probe.slot(lone.slot, ANSWER)).well:
        if now() - began >= lone.service.health.timeout:
            why = f"release {lone.release} is started, and its health check does not hold: {answer.why}"
            raise _given_up(run, lone, Failed(why))
        run.pause(0.1)


def _given_up(run: Run, lone: Lone, why: Failed) -> Failed:
    """Report the service's last log lines, record the failure, and return the error to raise."""
    units.report_journal(run, lone.service.slot(lone.slot), "-n", "20")
    lone.record("failed")
    return why
