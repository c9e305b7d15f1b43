"""A host's file systems that are full, have no inode left or reject writes, until the test mends them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from tasks.engine.sandbox import Machine

_ROOM = "size=1g,nr_inodes=200000,mode=755"


@dataclass(frozen=True)
class Disk:
    """A separate file system below `path` of a host. `mend` undoes each fault."""

    machine: Machine
    path: str

    def fill(self) -> None:
        """Leave no free block: each write fails with "No space left on device"."""
        self._limit("size", "(%b - %f) * %S")

    def use_up_inodes(self) -> None:
        """Leave no free inode: no new file, directory or link, but existing ones can grow."""
        self._limit("nr_inodes", "%c - %d")

    def make_read_only(self) -> None:
        """Reject writes to files opened from now on; files opened before still accept them, as on a failing disk."""
        # In one step, through a place where no process can have opened a file meanwhile.
        aside = f"/mnt{self.path}"
        self._sh(f"mkdir -p {aside} && mount --bind --make-private {self.path} {aside}")
        self._sh(f"mount -o remount,bind,ro {aside} && mount --bind {aside} {self.path} && umount {aside}")

    def mend(self) -> None:
        """Make room, and allow writes."""
        # A process that still has a file or directory open there keeps it as it was.
        self._sh(f"while findmnt -n -o OPTIONS {self.path} | tail -n 1 | grep -qw ro; do umount -l {self.path}; done")
        self._sh(f"mount -o remount,{_ROOM} {self.path}")

    def _limit(self, option: str, used: str) -> None:
        limit = f"{option}=$(($(stat -f -c '{used}' {self.path})))"
        # Another process may take more between the look and the limit, which is refused then.
        self._sh(f"until mount -o remount,{limit} {self.path} 2>/dev/null; do :; done")

    def _sh(self, command: str) -> None:
        ended = self.machine.sh(command)
        assert ended.returncode == 0, f"{command}: {(ended.stdout + ended.stderr).decode()}"


def separate(machine: Machine, path: str) -> Disk:
    """Give a path of a host, with its content, a file system of its own that survives reboots; reboot the host.

    It does not survive a power cut: the host then finds the content from before.
    """
    assert machine.keeper_pid is not None
    place = machine.directory / "disk" / "root" / path.lstrip("/")
    script = 'mkdir -p "$1" && mount -t tmpfs -o "$2" disk /mnt && cp -a "$1/." /mnt/ && mount --move /mnt "$1"'
    inside = ["nsenter", f"--target={machine.keeper_pid}", "--mount", "sh", "-ec", script, "sh", str(place), _ROOM]
    subprocess.run(inside, check=True, capture_output=True)
    machine.reboot()
    return Disk(machine, path)
