"""A host of the first layout: its traffic goes by a link of the deploy account, and comes to go by root's."""

from __future__ import annotations

import os
from contextlib import suppress

from . import programs
from .accounts import Account, as_account
from .folders import Folder
from .run import Run

_LOCKS = (".activating", ".running", ".staging", ".history")
_SLOTS = ("blue", "green")


def lead(name: str, root: str) -> None:
    """Let root's link lead to the committed slot, where it leads nowhere yet: one bit of the account's link is read."""
    with Folder.open(f"/run/{name}") as folder:
        for slot in _SLOTS:
            if folder.status("live") is None and os.path.exists(f"{root}/current/is-{slot}"):
                os.symlink(slot, "live", dir_fd=folder.descriptor)


def lead_on(run: Run, name: str, account: Account) -> None:
    """Lead the former link on to root's: for workers of nginx that end, and for the proxy of `listen:`."""
    former = f"/run/{name}/ctl/live"
    if not os.path.islink(former) or os.readlink(former) == f"/run/{name}/live":
        return
    # A watch of the first layout would commit past root's link, and stop the slot that it leads to.
    programs.systemctl("stop", *(f"{name}-probation@{slot}.service" for slot in _SLOTS))
    run.say("live", "root leads the traffic from now on")
    keep_former_way(name, run.id, account)
    proxy = f"{name}-listen.service"
    if programs.active(proxy):
        told = f"until a reboot it goes by a link of {account.name}, or until you cut what it carries"
        run.report("warning", f"{proxy} was not restarted: {told}: systemctl restart {proxy}")


def keep_former_way(name: str, run: str, account: Account) -> None:
    """Let the link that traffic went by in the first layout lead to root's."""
    part = f"live.new-{run}"

    def work(_: object) -> None:
        with Folder.open(f"/run/{name}/ctl") as folder:
            folder.remove(part)
            os.symlink(f"/run/{name}/live", part, dir_fd=folder.descriptor)
            folder.rename(part, "live")

    as_account(account, work, 30, 1 << 16)


def _drop(folder: Folder, name: str) -> None:
    """Remove a file or a link of a former layout; anything else of that name is not ours, and stays."""
    with suppress(OSError):
        folder.remove(name)


def forget(name: str, root: str, account: Account) -> None:
    """Remove what nothing looks for any more, once the record says so."""

    def work(_: object) -> None:
        with Folder.open(root) as folder:
            for lock in _LOCKS:
                _drop(folder, lock)
            with folder.below("slots") as slots:
                for slot in _SLOTS:
                    with slots.below(slot) as place:
                        _drop(place, "http.sock")
        with Folder.open(f"/run/{name}/ctl") as folder:
            _drop(folder, "door")

    as_account(account, work, 30, 1 << 16)
