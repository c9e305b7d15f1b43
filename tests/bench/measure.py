"""The cost of one command: time, CPU and memory of this machine, and bytes on the wire."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.ground import Ground

LIMIT = 900
"""Seconds that a command may take."""


@dataclass(frozen=True)
class Cost:
    """seconds: wall time; cpu: seconds of all its processes here; memory: bytes of the largest of them.

    received: bytes that reached the hosts; channels: commands, shells and file transfers opened on them.
    """

    seconds: float
    cpu: float
    memory: int
    received: int
    channels: int


class Failed(Exception):
    """A contender's command that failed; its output."""


def run(ground: Ground, words: Sequence[str], folder: Path, environment: Mapping[str, str], told: Path) -> Cost:
    """Run a command to its end; told: its output goes there. Raises Failed unless it succeeds."""
    before = ground.counted()
    with told.open("wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            words, cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        hangs = threading.Timer(LIMIT, process.kill)
        hangs.start()
        # Of the process and all that it waited for, as the kernel counts it.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        hangs.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise Failed(f"{' '.join(words)}\n{told.read_text(errors='replace')}")
    after = ground.counted()
    received, channels = after[0] - before[0], after[1] - before[1]
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, received, channels)
