"""The two slots of a service: their links, their start, and their stop, which waits for requests under way."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from . import programs, units
from .folders import Folder
from .run import Failed, Run, now
from .service import Service
from .slot_names import SLOTS, slot_of
from .units import Child, systemctl

STOP_MARGIN = 15
"""Seconds beyond `drain` until a slot is killed: a release can postpone its end for ever (EXTEND_TIMEOUT_USEC)."""


class Slots:
    """The slots of one service on this host."""

    def __init__(self, run: Run, service: Service, root: Folder) -> None:
        self._run, self.service, self._root = run, service, root
        self._run_folder = Folder.open(f"/run/{service.name}")

    # Read the links

    @property
    def current(self) -> str:
        """The slot of the committed release; empty before the first."""
        return slot_of(self._root.link("current"))

    @property
    def live(self) -> str:
        """The slot that gets the traffic."""
        return slot_of(self._run_folder.link("live"))

    def release(self, slot: str) -> str:
        """Return the release in a slot; empty if there is none."""
        return self._root.link(f"slots/{slot}/release").rpartition("/")[2] if slot else ""

    def placed_ago(self, slot: str) -> float:
        """Return the seconds since a release was put into a slot, by the host's clock; infinite without a release."""
        status = self._root.status(f"slots/{slot}/release")
        return time.time() - status.st_mtime if status else float("inf")

    @property
    def committed(self) -> str:
        """The committed release; empty before the first."""
        return self.release(self.current)

    # Change the links

    def relink(self, target: str, folder: str, link: str) -> None:
        """Replace a link of the service's directory by a rename, so that it always exists."""
        with self._root.below(folder) if folder else Folder.open(self._root.path) as place:
            part = f"{link}.new-{self._run.id}"
            place.remove(part)
            os.symlink(target, part, dir_fd=place.descriptor)
            place.rename(part, link)

    def forget_links(self) -> None:
        """Remove the temporary links of interrupted runs."""
        for path in ("", *(f"slots/{slot}" for slot in SLOTS)):
            with suppress(FileNotFoundError), Folder.open(f"{self._root.path}/{path}".rstrip("/")) as place:
                for name in place.names():
                    if ".new-" in name and place.link(name):
                        place.remove(name)

    def move_traffic(self, slot: str) -> None:
        """Move all traffic to a slot, or to `none`, by root's link; Failed if systemd does not do it."""
        unit = f"{self.service.name}-live@{slot}"
        self.require(
            systemctl("start", f"{unit}.service").wait(), f"the traffic cannot be moved: see journalctl -u {unit}"
        )

    def require(self, well: bool, why: str) -> None:
        """Raise Failed with this reason unless it went well; a run that is ending goes on all the same."""
        if not well and not self._run.ending:
            raise Failed(why)

    def permit_start(self, slot: str) -> None:
        """Let systemd start a slot that is not the committed one, by a file in /run."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        os.close(os.open(f"/run/{self.service.name}/try/{slot}", flags, 0o644))

    def has_permit(self, slot: str) -> bool:
        """Return whether `permit_start` was called for a slot, now or by an earlier run."""
        return self._run_folder.status(f"try/{slot}") is not None

    def revoke_permit(self, slot: str) -> None:
        """Let systemd start a slot only if it is the committed one, which needs no permit."""
        self._run_folder.remove(f"try/{slot}")

    # Start a slot

    def forget_starts(self, slot: str) -> Child:
        """Reset systemd's count of a slot's starts in the last minute; our own starts count, too."""
        return systemctl("reset-failed", self.service.slot(slot), f"{self.service.name}@{slot}.socket")

    def start(self, slot: str) -> bool:
        """Start a slot; try once more if systemd refused because of earlier starts."""
        if self.start_unit(slot, self.service.slot(slot)):
            return True
        parts = (self.service.slot(slot), f"{self.service.name}@{slot}.socket")
        if not any(units.show(unit, "Result").get("Result") == "start-limit-hit" for unit in parts):
            return False
        return self.forget_starts(slot).wait() and self.start_unit(slot, parts[0])

    def start_unit(self, slot: str, unit: str) -> bool:
        """Start a unit that brings up a slot; kill the slot if it extends systemd's limit for its start."""
        starting = systemctl("start", unit)
        if not starting.await_end(self._run, self.service.health.start_timeout + 5):
            self.kill(slot)
        return starting.wait()

    # Stop a slot

    def kill(self, slot: str) -> None:
        """Kill the processes of a slot."""
        systemctl("kill", "-s", "KILL", self.service.slot(slot)).wait()

    def stop(self, slot: str) -> Child:
        """Begin to stop a slot and its socket."""
        return systemctl("stop", self.service.slot(slot), f"{self.service.name}@{slot}.socket")

    def await_end(self, stopping: Child, seconds: float, *slots: str) -> bool:
        """Wait for a program that stops slots, and kill them after `seconds`; return whether that was necessary."""
        late = not stopping.await_end(self._run, seconds)
        if late:
            for slot in slots:
                self.kill(slot)
        stopping.wait()
        return late

    @property
    def bound(self) -> int:
        """Seconds that a stop may take in all before the slot is killed."""
        return self.service.drain + STOP_MARGIN

    def await_queue(self, slot: str, end: float) -> None:
        """Wait until no connection waits at a slot's socket, or until `end`, by the clock of `now`.

        A waiting connection would die with the socket. gthread accepts one at once, sync workers do not.
        """
        mark = self._socket_mark(slot)
        while self._waiting(slot, mark):
            # A service that is not running accepts none.
            if now() >= end or units.states(self.service.slot(slot)) != ["active"]:
                return
            self._run.pause(0.05)

    def _socket_mark(self, slot: str) -> str:
        """Return a slot's socket file as ss names it: any user can bind the same path in another mount namespace.

        ss reads the kernel's device number, with the minor in its lowest 20 bits, as if it were the C library's.
        """
        status = self._run_folder.status(f"{slot}.sock")
        if status is None:
            return "none"
        device = os.major(status.st_dev) << 20 | os.minor(status.st_dev)
        return f"ino:{status.st_ino & 0xFFFFFFFF} dev:{os.major(device)}/{os.minor(device)}"

    def _sockets(self, slot: str, mark: str, *options: str) -> list[list[str]]:
        """Return the words of each line of ss about a slot's socket, found by path if the kernel names no file.

        Any account can have more sockets of that path than could be kept, in a mount namespace of its own.
        """
        words = ("ss", "-Hxe", *options, "src", self.service.socket(slot))
        ours = f" {mark} ".encode()
        lines = programs.lines_with(*words, wanted=lambda line: ours in line + b" " or b" ino:" not in line)
        return [line.split() for line in lines if line]

    def _waiting(self, slot: str, mark: str) -> bool:
        return any(len(words) > 2 and words[2] != "0" for words in self._sockets(slot, mark, "-l"))

    def drain(self, slot: str) -> None:
        """Stop a slot when its last requests have ended or `drain` seconds are over; Failed if it does not stop."""
        drain, grace = self.service.drain, self.service.grace
        mark = self._socket_mark(slot)
        self.await_queue(slot, now() + drain)
        stopping, end, left = self.stop(slot), now() + drain, 0
        stopping.await_end(self._run, drain)
        # When the application's own limit ends, it cuts off the requests that are left: count them just before.
        while not stopping.await_end(self._run, 0) and now() - end < grace - 0.1:
            left = len(self._sockets(slot, mark, "state", "connected"))
            self._run.pause(0.02)
        late = self.await_end(stopping, STOP_MARGIN - grace, slot)
        self.require(stopping.wait(), f"slot {slot} cannot be stopped")
        if late:
            self._run.report("warning", f"slot {slot} did not stop within {self.bound} s, and was killed")
        with self._run.report_errors_while_ending():
            self.revoke_permit(slot)
        if left and now() - end >= grace:
            warning = f"slot {slot}: {left} requests were still under way after {drain} s, and were cut off"
            self._run.report("warning", warning)

    def end(self, slot: str, *, at_once: bool = False) -> None:
        """Stop a slot that serves no longer, and reset the count of its starts. at_once: kill it first."""
        if at_once:
            self.kill(slot)
        self.drain(slot)
        self.forget_starts(slot).wait()
