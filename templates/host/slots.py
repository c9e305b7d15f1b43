"""The two slots of a service: what the links say of them, how one starts, and how one ends, with nobody cut off."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from . import programs, units
from .folders import Folder
from .run import Failed, Run, now
from .service import Service
from .units import Child, systemctl

SLOTS = ("blue", "green")
_BOUND = 15
"""Seconds beyond `drain` after which whatever still runs is killed.

A release may put off its start and its end a little at a time, and for ever (EXTEND_TIMEOUT_USEC).
"""


def other(slot: str) -> str:
    """The other slot; blue where there is none yet."""
    return "green" if slot == "blue" else "blue"


def _slot(target: str) -> str:
    """The slot that a link leads to, by its last word; empty where it leads elsewhere."""
    name = target.rpartition("/")[2]
    return name if name in SLOTS else ""


class Slots:
    """The slots of one service on this host."""

    def __init__(self, run: Run, service: Service, root: Folder) -> None:
        self._run, self.service, self._root = run, service, root
        self._places = Folder.open(f"/run/{service.name}")

    # What the links say

    @property
    def current(self) -> str:
        """The slot of the committed release; empty before the first."""
        return _slot(self._root.link("current"))

    @property
    def live(self) -> str:
        """The slot that has the traffic."""
        return _slot(self._places.link("live"))

    def release(self, slot: str) -> str:
        """The release in a slot; empty where there is none."""
        return self._root.link(f"slots/{slot}/release").rpartition("/")[2] if slot else ""

    def placed_ago(self, slot: str) -> float:
        """For how many seconds a release has been in a slot, by the host's clock; for ever where none is."""
        found = self._root.status(f"slots/{slot}/release")
        return time.time() - found.st_mtime if found else float("inf")

    @property
    def committed(self) -> str:
        """The committed release; empty before the first."""
        return self.release(self.current)

    # How they change

    def relink(self, target: str, folder: str, link: str) -> None:
        """Replace a link of the service's directory by a rename, so that there is no moment without one."""
        with self._root.below(folder) if folder else Folder.open(self._root.path) as place:
            part = f"{link}.new-{self._run.id}"
            place.remove(part)
            os.symlink(target, part, dir_fd=place.descriptor)
            place.rename(part, link)

    def forget_links(self) -> None:
        """Remove links that never came to take a place."""
        for path in ("", *(f"slots/{slot}" for slot in SLOTS)):
            with suppress(FileNotFoundError), Folder.open(f"{self._root.path}/{path}".rstrip("/")) as place:
                for name in place.names():
                    if ".new-" in name and place.link(name):
                        place.remove(name)

    def lead(self, slot: str) -> None:
        """Move all traffic, by root's link, to a slot, or to none; Failed where systemd does not do it."""
        unit = f"{self.service.name}-live@{slot}"
        self.require(
            systemctl("start", f"{unit}.service").wait(), f"the traffic cannot be moved: see journalctl -u {unit}"
        )

    def require(self, well: bool, why: str) -> None:
        """Failed with that reason where something did not go well; on the way out the rest is done all the same."""
        if not well and not self._run.leaving:
            raise Failed(why)

    def try_slot(self, slot: str) -> None:
        """Let systemd start a slot that is not the committed one."""
        os.close(os.open(f"/run/{self.service.name}/try/{slot}", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644))

    def tried(self, slot: str) -> bool:
        """Whether systemd would start it though it is not the committed one."""
        return self._places.status(f"try/{slot}") is not None

    def end_try(self, slot: str) -> None:
        """Let systemd start a slot only if it is the committed one."""
        self._places.remove(f"try/{slot}")

    # How one starts

    def forget_starts(self, slot: str) -> Child:
        """Tell systemd to forget the starts that it counts, ours too, for a minute."""
        return systemctl("reset-failed", self.service.slot(slot), f"{self.service.name}@{slot}.socket")

    def start(self, slot: str) -> bool:
        """Start a slot; once more where systemd refused because of starts that are over."""
        if self.start_unit(slot, self.service.slot(slot)):
            return True
        parts = (self.service.slot(slot), f"{self.service.name}@{slot}.socket")
        if not any(units.show(unit, "Result").get("Result") == "start-limit-hit" for unit in parts):
            return False
        return self.forget_starts(slot).wait() and self.start_unit(slot, parts[0])

    def start_unit(self, slot: str, unit: str) -> bool:
        """Start a unit that a slot comes up with. Systemd has the same limit; what talks it out of that is killed."""
        starting = systemctl("start", unit)
        if not starting.ended(self._run, self.service.health.start_timeout + 5):
            self.kill(slot)
        return starting.wait()

    # How one ends

    def kill(self, slot: str) -> None:
        """End its processes at once."""
        systemctl("kill", "-s", "KILL", self.service.slot(slot)).wait()

    def stop(self, slot: str) -> Child:
        """Begin to stop a slot and its socket."""
        return systemctl("stop", self.service.slot(slot), f"{self.service.name}@{slot}.socket")

    def await_end(self, stopping: Child, seconds: float, *slots: str) -> bool:
        """Wait for a program that stops slots; whether they had to be killed, because it took longer than that."""
        late = not stopping.ended(self._run, seconds)
        if late:
            for slot in slots:
                self.kill(slot)
        stopping.wait()
        return late

    @property
    def bound(self) -> int:
        """Seconds that an end may take in all: what runs longer is killed."""
        return self.service.drain + _BOUND

    def await_queue(self, slot: str, end: float) -> None:
        """Wait until nobody waits at its socket, or until `end`, of `now`.

        What waits there would die with the socket: gthread takes it at once, sync workers do not.
        """
        mark = self._socket_mark(slot)
        while self._waiting(slot, mark):
            # Nobody takes from the queue of a service that is not there.
            if now() >= end or units.states(self.service.slot(slot)) != ["active"]:
                return
            self._run.pause(0.05)

    def _socket_mark(self, slot: str) -> str:
        """The file of a slot's socket as ss names it: anybody can bind one to the same path in an own mount namespace.

        ss takes the kernel's number of a device, with the minor in its lowest 20 bits, for the C library's.
        """
        found = self._places.status(f"{slot}.sock")
        if found is None:
            return "none"
        device = os.major(found.st_dev) << 20 | os.minor(found.st_dev)
        return f"ino:{found.st_ino & 0xFFFFFFFF} dev:{os.major(device)}/{os.minor(device)}"

    def _sockets(self, slot: str, mark: str, *options: str) -> list[list[str]]:
        """The lines of ss about its socket, as words. Where the kernel cannot tell ss the file, the path has to do."""
        lines = programs.ask("ss", "-Hxe", *options, "src", self.service.socket(slot)).output.splitlines()
        return [line.split() for line in lines if f" {mark} " in f"{line} " or " ino:" not in line]

    def _waiting(self, slot: str, mark: str) -> bool:
        return any(len(words) > 2 and words[2] != "0" for words in self._sockets(slot, mark, "-l"))

    def drain(self, slot: str) -> None:
        """Stop a slot once its last requests have ended, or `drain` seconds are over; Failed where that cannot be."""
        drain, grace = self.service.drain, self.service.grace
        mark = self._socket_mark(slot)
        self.await_queue(slot, now() + drain)
        stopping, end, left = self.stop(slot), now() + drain, 0
        stopping.ended(self._run, drain)
        # Who is still there when the application's own patience ends is cut off: counted just before, while all are.
        while not stopping.ended(self._run, 0) and now() - end < grace - 0.1:
            left = len(self._sockets(slot, mark, "state", "connected"))
            self._run.pause(0.02)
        late = self.await_end(stopping, _BOUND - grace, slot)
        self.require(stopping.wait(), f"slot {slot} cannot be stopped")
        if late:
            told = f"slot {slot} put off its end for longer than {self.bound} s, and was killed"
            self._run.report("warning", told)
        with self._run.surely():
            self.end_try(slot)
        if left and now() - end >= grace:
            told = f"slot {slot}: {left} requests were still under way after {drain} s, and were cut off"
            self._run.report("warning", told)

    def end(self, slot: str, *, at_once: bool = False) -> None:
        """Stop a slot that is to serve no longer, and forget its starts. at_once: kill it first."""
        if at_once:
            self.kill(slot)
        self.drain(slot)
        self.forget_starts(slot).wait()
