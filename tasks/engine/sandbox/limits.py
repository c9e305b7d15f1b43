"""A limit of the kernel that many systemds on one kernel run into together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
"""128 as the kernel comes: for all systemds of one user, which is root, some twenty hosts. Then boots fail."""

_EACH = 32


def make_room(hosts: int, say: Callable[[str], None], file: Path = INSTANCES) -> None:
    """Let so many hosts have their inotify instances, until this machine is booted again; never less than there was."""
    wanted = 128 + _EACH * hosts
    allowed = int(file.read_text())
    if allowed < wanted:
        say(f"allowing {wanted} inotify instances instead of {allowed}, until this machine boots again")
        file.write_text(f"{wanted}\n")
