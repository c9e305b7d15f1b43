"""Move a host of an older layout while it serves.

In the first one a link of the deploy account led the traffic; up to the second, processes had no slots.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from contextlib import suppress

from . import programs
from .accounts import Account, as_account
from .folders import Folder
from .locks import RUN
from .run import Run
from .slot_names import SLOTS, slot_of

_LOCKS = (".activating", ".running", ".staging", ".history")


def make_live_link(name: str, root: str) -> None:
    """Point root's link, if it is missing, at the slot that the account's link names: blue or green, nothing else.

    The account's link is read and not followed: it may lead to what never answers.
    """
    with Folder.open(root) as theirs:
        slot = slot_of(theirs.link("current"))
    with Folder.open(f"{RUN}/{name}") as folder:
        if slot and folder.status("live") is None:
            os.symlink(slot, "live", dir_fd=folder.descriptor)


def redirect_former_link(run: Run, name: str, account: Account) -> None:
    """Point the former link at root's, once: workers of nginx that end and the proxy of `listen:` still use it."""
    former = f"/run/{name}/ctl/live"
    if not os.path.islink(former) or os.readlink(former) == f"/run/{name}/live":
        return
    # A guard of the first layout would commit without root's link, and stop the slot that has the traffic.
    programs.systemctl("stop", *(f"{name}-probation@{slot}.service" for slot in SLOTS))
    run.say("live", "a link of root's leads the traffic from now on")
    point_former_link(name, run.id, account)
    proxy = f"{name}-listen.service"
    if programs.active(proxy):
        until = f"it uses a link of {account.name} until a reboot, or a restart, which cuts its connections"
        run.report("warning", f"{proxy} was not restarted: {until}: systemctl restart {proxy}")


def point_former_link(name: str, run: str, account: Account) -> None:
    """Point the link that carried the traffic in the first layout at root's link."""
    part = f"live.new-{run}"

    def work(_: object) -> None:
        with Folder.open(f"/run/{name}/ctl") as folder:
            folder.remove(part)
            os.symlink(f"/run/{name}/live", part, dir_fd=folder.descriptor)
            folder.rename(part, "live")

    as_account(account, work, 30, 1 << 16)


def unslotted(name: str, leftovers: Iterable[str], sent: Collection[str]) -> list[str]:
    """Of the processes that will run in slots, return the names of the units that are up outside of a slot."""
    folder = "etc/systemd/system"
    units = [os.path.basename(path)[: -len(".service")] for path in leftovers if path.startswith(f"/{folder}/{name}-")]
    return [unit for unit in units if f"{folder}/{unit}@.service" in sent and programs.active(f"{unit}.service")]


def start_in_slot(run: Run, name: str, units: Iterable[str]) -> None:
    """Start in the live slot what ran without one; its former unit is removed and stopped."""
    with Folder.open(f"/run/{name}") as folder:
        live = folder.link("live")
    for unit in units if live in SLOTS else ():
        run.say("start", f"{unit}@{live}.service")
        if not programs.systemctl("start", f"{unit}@{live}.service"):
            run.report("warning", f"{unit}@{live}.service does not start: see journalctl -u {unit}@{live}")


def _drop(folder: Folder, name: str) -> None:
    """Remove a file or a link of a former layout; keep anything else of that name, which is not ours."""
    with suppress(OSError):
        folder.remove(name)


def remove_former_files(name: str, root: str, account: Account) -> None:
    """Remove the files of the first layout, once the record names a later one."""

    def work(_: object) -> None:
        with Folder.open(root) as folder:
            for lock in _LOCKS:
                _drop(folder, lock)
            with folder.below("slots") as slots:
                for slot in SLOTS:
                    with slots.below(slot) as place:
                        _drop(place, "http.sock")
        with Folder.open(f"/run/{name}/ctl") as folder:
            _drop(folder, "door")

    as_account(account, work, 30, 1 << 16)
