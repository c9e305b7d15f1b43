"""Run before_activate of a staged release, once for a whole deploy, as the service's user. Nothing live is touched."""

from __future__ import annotations

import os
import time

from . import history, service, units
from .folders import Folder
from .recover import Ground
from .run import Failed, Refused, Run
from .slots import Slots
from .turns import Turns
from .units import systemctl

_ACTION = "before_activate"


def perform(run: Run) -> None:
    """In the idle slot, which the next activation takes anyway."""
    of, release = service.of(run.step), run.step["release"]
    with Folder.open(of.root) as root:
        turns, slots = Turns(run, of), Slots(run, of, root)
        turns.take(_ACTION, release)
        slot = Ground(run, slots, "hook").new
        if not os.path.isfile(f"{of.root}/releases/{release}/run/hook"):
            raise Refused(f"release {release} has no {_ACTION}")
        began = int(time.time())
        run.say("hook", f"{_ACTION} of {release}")
        history.record(run, root, _ACTION, release, "started")
        slots.relink(f"../../releases/{release}", f"slots/{slot}", "release")
        run.point("hook.start")
        well = _run(run, of.hook(slot))
        units.said(run, of.hook(slot), "-n", "200", "--since", f"@{began}")
        if not well:
            # Where there is nothing to forget, or that is refused, it has failed all the same.
            systemctl("reset-failed", of.hook(slot)).wait()
            history.record(run, root, _ACTION, release, "failed")
            raise Failed(f"{_ACTION} failed")
        run.point("hook.ended")
        history.record(run, root, _ACTION, release, "done")


def _run(run: Run, unit: str) -> bool:
    """Whether it succeeded. For as long as it takes: systemd ends it after half an hour.

    A signal ends the wait, and not the hook; while that is at work `Ground` lets no other run begin.
    """
    starting = systemctl("start", unit)
    while not starting.ended(run, 60):
        pass
    return starting.wait()
