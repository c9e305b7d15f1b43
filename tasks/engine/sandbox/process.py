"""Find the processes of a sandbox host in /proc, so that only those are ever signalled."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path


def start_time(pid: int) -> int | None:
    """Return the start of a process in clock ticks since boot; None for one that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def read_pid_file(pid_file: Path) -> int | None:
    """Return the process of a pid file ("PID START"); None unless it is alive and has that start time."""
    try:
        pid, started = map(int, pid_file.read_text().split())
    except (OSError, ValueError):
        return None
    return pid if start_time(pid) == started else None


def children(pid: int) -> tuple[int, ...]:
    """Return the direct children of a process; none for one that is gone."""
    try:
        return tuple(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return ()


def leader(keeper: int) -> int | None:
    """Return the controller's pid for PID 1 of the host below a keeper; None while there is none."""
    for nspawn in children(keeper):
        for child in children(nspawn):
            if _innermost_pid(child) == 1 and start_time(child) is not None:
                return child
    return None


def _innermost_pid(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
    return int(numbers[-1]) if len(numbers) > 1 else None


def kill(pid: int) -> None:
    """SIGKILL a process that may already be gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def await_end(pid: int, timeout: float) -> bool:
    """Wait until a process is gone, for at most `timeout` seconds; return True if it is."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        ready, _, _ = select.select([handle], [], [], timeout)
    finally:
        os.close(handle)
    return bool(ready)
