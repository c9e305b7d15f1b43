"""Run before_activate of a staged release, once per deploy, as the service's user, once `recover` has put all right."""

from __future__ import annotations

import os
import time

from . import history, memory, service, units
from .change_lock import ChangeLock
from .folders import Folder
from .process_units import ProcessUnits
from .recover import recover
from .run import Failed, Refused, Run
from .slots import Slots
from .units import systemctl

_ACTION = "before_activate"


def perform(run: Run) -> None:
    """Run the hook in the idle slot, which the next activation takes anyway."""
    of, release = service.of(run.step), run.step["release"]
    with Folder.open(of.root) as root:
        change_lock, slots = ChangeLock(run, of), Slots(run, of, root)
        change_lock.take(_ACTION, release)
        slot = recover(run, slots, ProcessUnits(run, of), "hook").new
        if not os.path.isfile(f"{of.root}/releases/{release}/run/hook"):
            raise Refused(f"release {release} has no {_ACTION}")
        began = int(time.time())
        run.say("hook", f"{_ACTION} of {release}")
        history.record(run, root, _ACTION, release, "started")
        slots.relink(f"../../releases/{release}", f"slots/{slot}", "release")
        run.point("hook.start")
        well = _run(run, of.hook(slot))
        units.report_journal(run, of.hook(slot), "-n", "200", "--since", f"@{began}")
        if not well:
            # Ignore the result: the hook has failed either way.
            systemctl("reset-failed", of.hook(slot)).wait()
            history.record(run, root, _ACTION, release, "failed")
            raise Failed(f"{_ACTION} failed{memory.fault(of.hook(slot), began, signalled=False)}")
        run.point("hook.ended")
        history.record(run, root, _ACTION, release, "done")


def _run(run: Run, unit: str) -> bool:
    """Start the unit and wait for its end; return True if it succeeded. systemd kills it after half an hour.

    A signal ends the wait, not the hook; until the hook ends, `recover` lets no other run begin.
    """
    starting = systemctl("start", unit)
    while not starting.await_end(run, 60):
        pass
    return starting.wait()
