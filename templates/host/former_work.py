"""End the processes of the service that a former deploy account may have started."""

from __future__ import annotations

import os

from . import accounts, programs, run_units, units
from .accounts import Account
from .folders import Folder
from .processes import name_of
from .record import Record
from .run import Run
from .slot_names import SLOTS
from .slots import STOP_MARGIN

_OWN = ("probation", "live", "boot", "hook", "run", "run-health")
"""Words of our own template units, NAME-WORD@; the other units of this form are processes of service.yaml."""
_OVER = {"inactive", "failed", "unknown"}


def end(run: Run, record: Record, former: set[int], account: Account) -> None:
    """End what the former account may have started as the service, except the live slot; restart that slot's workers.

    Root's link names the live slot: the former account could change `current`.
    """
    if not former:
        return
    name = record.name
    with Folder.open(f"/run/{name}") as folder:
        live = folder.link("live")
    if live in SLOTS:
        _commit(run.step["root"], live, run.id, account)
    _stop(run, record, [slot for slot in SLOTS if slot != live])
    if live in SLOTS:
        names = " and ".join(sorted(map(name_of, former)))
        advice = f"deploy now: {names} made the live release, and a restart or a boot would start it again"
        run.report("warning", advice)


def _stop(run: Run, record: Record, idle: list[str]) -> None:
    name, step = record.name, run.step
    ours = {os.path.basename(path) for path in record.files if path.startswith("/etc/systemd/system/")}
    extras = {unit for unit in ours if unit.startswith(f"{name}-") and unit.endswith(".service")}
    extras -= {f"{name}-listen.service", *(f"{name}-{kind}@.service" for kind in _OWN)}
    jobs = sorted(unit for unit in extras if "@" not in unit)
    processes = [unit.replace("@.", f"@{slot}.") for unit in sorted(extras) if "@" in unit for slot in SLOTS]
    hooks = [f"{name}-hook@{slot}.service" for slot in SLOTS]
    wanted = [*(f"{name}@{slot}.service" for slot in idle), *hooks, *jobs, *processes]
    ending = [unit for unit, state in zip(wanted, units.states(*wanted)) if state not in _OVER]
    wanted += [f"{name}@{slot}.socket" for slot in idle]
    if ending:
        run.say("stop", f"{' '.join(ending)}: started under the former account")
    if programs.ask("systemctl", "stop", *wanted, seconds=step["drain"] + STOP_MARGIN).status == programs.LATE:
        programs.systemctl("kill", "-s", "KILL", *ending)
        programs.systemctl("stop", *wanted)
    programs.systemctl("stop", run_units.slice_of(name))
    of_live = [unit for unit in ending if unit in processes and unit.rpartition("@")[2].partition(".")[0] not in idle]
    if of_live:
        programs.systemctl("start", *of_live)


def _commit(root: str, slot: str, run: str, account: Account) -> None:
    """Point `current` at the live slot, with the rights of the account."""

    def work(_: object) -> None:
        with Folder.open(root) as folder:
            if folder.link("current") != f"slots/{slot}":
                part = f"current.new-{run}"
                folder.remove(part)
                os.symlink(f"slots/{slot}", part, dir_fd=folder.descriptor)
                folder.rename(part, "current")

    accounts.as_account(account, work, 30, 1 << 16)
