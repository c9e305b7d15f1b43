"""Commit or undo the activation of a release, for the run itself and for its guard."""

from __future__ import annotations

import json
import os

from . import history, run_units, units
from .change_lock import ChangeLock
from .folders import Folder
from .probe import Probe
from .process_units import ProcessUnits
from .run import Run
from .service import Service
from .slots import Slots
from .units import systemctl

BOOT_LINKS = "/etc/systemd/system/multi-user.target.wants"


class Attempt:
    """The activation of a release.

    prefix: the first word of its failpoints
    old: the committed slot; new: the candidate's slot
    switched: whether the traffic may have moved; why: the reason of a failure
    """

    def __init__(self, run: Run, service: Service, prefix: str) -> None:
        self.run, self.service, self.prefix = run, service, prefix
        self.step = run.step
        self.release: str = run.step["release"]
        self.root = Folder.open(service.root)
        self.change_lock = ChangeLock(run, service)
        self.slots = Slots(run, service, self.root)
        self.processes = ProcessUnits(run, service)
        self.old = self.new = ""
        self.main_unit_state = ""
        self.switched = False
        self.why = ""
        self._followed = self.processes_replaced = False

    def load_health_check(self) -> None:
        """Load the release's own health check."""
        self.probe = Probe(self.service, self.release)

    def record(self, state: str, why: str = "") -> None:
        """Write a line into the history."""
        with self.run.report_errors_while_ending():
            # The release that serves may be what fills the disk.
            write = history.try_record if self.step["stop_first"] else history.record
            write(self.run, self.root, self.step["action"], self.release, state, why)

    @property
    def is_committed(self) -> bool:
        """True once `current` has moved, whatever came after that."""
        return self.slots.current == self.new

    # Commit

    def commit(self) -> None:
        """Move `current`: the point of no return."""
        self.run.point(f"{self.prefix}.commit")
        self.slots.relink(f"slots/{self.new}", "", "current")
        self.run.point(f"{self.prefix}.committed")

    def follow_up(self) -> None:
        """Do what follows from a commit, once in a process. If the run died half-way, its guard does it again."""
        if self._followed:
            return
        self.record_commit()
        self.run.point(f"{self.prefix}.recorded")
        self._enable()
        main_unit = f"{self.service.name}.service"
        if (self.main_unit_state or units.states(main_unit)[0]) != "active":
            self._require(systemctl("start", main_unit).wait(), f"does not start {main_unit}")
        self.run.point(f"{self.prefix}.main_unit")
        self.replace_processes()
        for timer in self.service.timers:
            if not systemctl("restart", timer).wait():
                self.run.report("warning", f"{timer} does not start: see journalctl -u {timer}")
        self._followed = True
        self.run.point(f"{self.prefix}.processes")

    def replace_processes(self) -> None:
        """Replace the former processes by those of the release, once."""
        if not self.processes_replaced:
            self.processes.replace(self.new, self.old)
            self.processes_replaced = True

    def record_commit(self) -> None:
        """Sync the commit to the disk, and write it into the history."""
        self._sync("", f"slots/{self.new}")
        self.run.point(f"{self.prefix}.follow")
        if not _is_end_of(history.last(self.root), self.run.id):
            self.record("done")
        self.run.say("committed", self.release)

    def _sync(self, *folders: str) -> None:
        for path in folders:
            with self.run.report_errors_while_ending(), Folder.open(f"{self.root.path}/{path}".rstrip("/")) as folder:
                folder.sync()

    def _enable(self) -> None:
        """Enable a service that was stopped and disabled: a deploy brings it back, at the next boot too."""
        if not os.path.islink(f"{BOOT_LINKS}/{self.service.name}.service"):
            self.run.say("enable", "a boot starts it again")
            self._require(systemctl("enable", *self.service.enabled).wait(), "does not enable it for the next boot")

    def _require(self, well: bool, what: str) -> None:
        self.slots.require(well, f"release {self.release} serves and is committed, but systemd {what}")

    # Undo

    def restore_traffic(self) -> bool:
        """Move the traffic to the old slot; return False, with the reason in `why`, if it stays with the new slot.

        The new slot is left running then: any answer is better than none.
        """
        self.slots.move_traffic(self.old)
        if self.slots.live != self.new:
            return True
        self.why = f"{self.why}; the traffic could not go back, and stays with slot {self.new}"
        return False

    def undo(self) -> None:
        """Move the traffic back, then stop the new slot."""
        back = True
        if self.switched and self.old:
            back = self.restore_traffic()
        with self.run.report_errors_while_ending():
            self.slots.forget_links()
        self.run.point(f"{self.prefix}.undo")
        if any(process.health for process in self.service.processes):
            run_units.end_health_commands(self.service.name)
        if not back:
            self.record("failed", self.why)
            return
        # Before the switch the new slot has no users, and may ignore a stop.
        self.slots.end(self.new, at_once=not self.switched)
        self._revive_former()
        self.give_back()
        if not self.old:
            self._close_front_door()
        self.run.point(f"{self.prefix}.undone")
        self.record("failed", self.why)
        self.run.point(f"{self.prefix}.failed")

    def give_back(self) -> None:
        """Give the work back to the processes of the old slot, if there is one; end those of the new slot."""
        if self.old:
            self.processes.replace(self.old, self.new)
        self.processes.begin_stop(self.new)

    def start_former(self) -> None:
        """Start the old slot, which is stopped, for the traffic that goes back to it."""
        self.run.say("recover", f"slot {self.old} was stopped, and is started")
        self.slots.forget_starts(self.old).wait()
        self.slots.start_unit(self.old, self.service.slot(self.old))

    def _revive_former(self) -> None:
        """Start the old slot and the timers again if they were stopped first."""
        if not self.step["stop_first"] or not self.old or units.states(self.service.slot(self.old)) == ["active"]:
            return
        self.start_former()
        for timer in self.service.timers:
            systemctl("restart", timer).wait()

    def _close_front_door(self) -> None:
        """Close the way in, nginx's and that of `listen:`: no release is committed."""
        if self.switched:
            self.slots.move_traffic("none")
        if self.service.front.listen:
            name = self.service.name
            systemctl("stop", f"{name}-listen.socket", f"{name}-listen.service").wait()


def _is_end_of(line: str, run: str) -> bool:
    """Return whether a line of the history says that this run is done."""
    try:
        entry = json.loads(line)
        return bool((entry["run"], entry["state"]) == (run, "done"))
    except (ValueError, KeyError, TypeError):
        return False
