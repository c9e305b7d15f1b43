"""Manage cgroups of sandbox hosts on a controller without systemd; with it, each has a scope that systemd removes."""

from __future__ import annotations

import time
from pathlib import Path

from tasks.engine.errors import UsageError
from tasks.engine.sandbox import process

_NSPAWN = Path("/run/systemd/nspawn/propagate")


def relative_path(machine: str) -> str:
    """Return the path of a host's cgroup below the root of each hierarchy."""
    return f"integrators-loop/{machine}"


def root() -> Path:
    """Return the mount point of the unified hierarchy. Raises UsageError where there is none."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    raise UsageError(
        "this machine has no cgroup2 mounted, and systemd cannot boot in a sandbox without it",
        next="mount -t cgroup2 cgroup2 /sys/fs/cgroup",
    )


def remove(machine: str, timeout: float = 5.0) -> None:
    """Remove the leftovers of a host that is off: its cgroups, and the directory through which nspawn passes mounts.

    On a controller with hybrid cgroups, nspawn mirrors the cgroup in the named hierarchy.
    """
    for hierarchy in (root(), Path("/sys/fs/cgroup/systemd")):
        _remove_tree(hierarchy / relative_path(machine), time.monotonic() + timeout)
    if (_NSPAWN / machine).is_dir():
        (_NSPAWN / machine).rmdir()


def _remove_tree(top: Path, deadline: float) -> None:
    """Remove a cgroup and those below it; the kernel reports one as busy until its last process is reaped.

    Processes are left there only where nspawn itself was killed: its host goes on without it.
    """
    for file in top.rglob("cgroup.procs"):
        for pid in map(int, file.read_text().split()):
            process.kill(pid)
    for directory in [*sorted(top.rglob("*/"), reverse=True), top]:
        while directory.is_dir():
            try:
                directory.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
