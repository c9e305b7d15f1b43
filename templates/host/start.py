"""Start the committed release, and let it start at boot again."""

from __future__ import annotations

import json

from . import locks, units
from .outside_run import OutsideRun
from .probe import ANSWER, Probe
from .run import Failed, Run, now
from .units import systemctl


def perform(run: Run) -> None:
    """Start the release, and wait until its health check passes."""
    verb = OutsideRun(run, "start", "deploy one")
    _require_no_restore(run)
    # Use the release's own health check.
    probe = Probe(verb.service, verb.release)
    verb.record("started")
    run.point("start.enable")
    enabled = systemctl("enable", *verb.service.enabled).wait()
    verb.slots.require(enabled, "the service cannot be enabled, so a boot would not start it")
    run.point("start.start")
    # Usually there is no count to reset, so the result does not matter.
    verb.slots.forget_starts(verb.slot).wait()
    _start(run, verb)
    _await_health(run, verb, probe)
    run.point("start.started")
    verb.record("done")
    run.say("started", verb.release)


def _require_no_restore(run: Run) -> None:
    """Raise Busy if another run is restoring the service's data: the release would write into half of it."""
    with locks.opened(run.step["name"], "run") as lock:
        if not lock.held:
            return
        try:
            line = json.loads(lock.read())
            restores = line["action"] == "restore" and line["run"] != run.id
        except (ValueError, KeyError, TypeError, RecursionError):
            restores = False
        if restores:
            raise lock.refusal()


def _start(run: Run, verb: OutsideRun) -> None:
    began, slot, main_unit = now(), verb.slot, f"{verb.service.name}.service"
    # The main unit brings the slots up, but may itself be up without them: start this slot by name, too.
    for unit in (main_unit, verb.service.slot(slot)):
        if verb.slots.start_unit(slot, unit):
            continue
        limit = verb.service.health.start_timeout
        if now() - began >= limit:
            raise _given_up(run, verb, Failed(f"release {verb.release} was not ready within {limit} s of its start"))
        # The output of systemd or sudo says why.
        verb.record("failed")
        raise Failed(f"{unit} did not start")


def _await_health(run: Run, verb: OutsideRun, probe: Probe) -> None:
    began = now()
    while not (answer := probe.slot(verb.slot, ANSWER)).well:
        if now() - began >= verb.service.health.timeout:
            why = f"release {verb.release} is started, and its health check does not hold: {answer.why}"
            raise _given_up(run, verb, Failed(why))
        run.pause(0.1)


def _given_up(run: Run, verb: OutsideRun, why: Failed) -> Failed:
    """Report the service's last log lines, record the failure, and return the error to raise."""
    units.report_journal(run, verb.service.slot(verb.slot), "-n", "20")
    verb.record("failed")
    return why
