"""Raise a limit of the kernel that many systemds on one kernel reach together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
"""By default 128 for each user. The systemds of some twenty hosts, all root's, use them up; then boots fail."""

_EACH = 32


def raise_inotify_limit(hosts: int, say: Callable[[str], None], file: Path = INSTANCES) -> None:
    """Allow enough inotify instances for `hosts`, until this machine boots again; never lower the limit."""
    wanted = 128 + _EACH * hosts
    allowed = int(file.read_text())
    if allowed < wanted:
        say(f"allowing {wanted} inotify instances instead of {allowed}, until this machine boots again")
        file.write_text(f"{wanted}\n")
