"""Run a program on this machine that may print anything, start anything and never end."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

_LINES = 20
_LOOK = 0.1
"""Seconds between two looks whether a program is to be stopped."""
_TAIL = 1 << 16
"""Bytes of the output that are read at most, from its end."""
MEMORY = 2 << 30
"""Bytes of memory that a program with a limit may use: a package's index may send it anything."""


class Ended(NamedTuple):
    """The end of a program. status: None if it took too long and was ended; lines: the last lines of its output."""

    status: int | None
    lines: tuple[str, ...]

    def fault(self, most: str) -> str:
        """Return why it failed, or nothing. most: the time that it had, in words."""
        if self.status is None:
            return f"it did not end within {most}"
        return f"it ended with status {self.status}" if self.status else ""


def run(
    command: Sequence[str],
    *,
    seconds: float | None,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    apart: bool = True,
    data: bytes = b"",
    stopped: Callable[[], bool] | None = None,
    limited: bool = False,
) -> Ended:
    """Run a program to its end, with `data` as its standard input; OSError if it cannot be started.

    What it started may live on, unless it takes too long or we are interrupted: then all of its session is ended.
    apart: False for a program that shares our session, and gets our Ctrl-C; what it started is never ended
    stopped: asked again and again; True ends the program, as if it took too long
    limited: True for a program that may use no more than MEMORY
    """
    # The input is a file, so a program that reads none of it, or not all, is never waited for.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output:
        given.write(data)
        given.seek(0)
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=given, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=apart,
        )  # fmt: skip
        if limited:
            limit_memory(process)
        try:
            status = _wait(process, seconds, stopped)
        finally:
            end(process, apart=apart)
        return Ended(status, last_lines(output))


def _wait(process: subprocess.Popen[bytes], seconds: float | None, stopped: Callable[[], bool] | None) -> int | None:
    """Return the exit status; None for a program that takes too long, or is to be stopped."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        with suppress(subprocess.TimeoutExpired):
            return process.wait(left if stopped is None else min(_LOOK, left or _LOOK))
        if (stopped and stopped()) or (deadline is not None and time.monotonic() >= deadline):
            return None


def limit_memory(process: subprocess.Popen[bytes]) -> None:
    """Limit the memory of a program that was started just now, where the system can.

    RLIMIT_DATA counts what a program may write to: neither mapped files nor space that is only reserved.
    """
    if sys.platform == "linux":
        # It may have ended already, or have a lower limit.
        with suppress(OSError, ValueError):
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (MEMORY, MEMORY))


def end(process: subprocess.Popen[bytes], *, apart: bool) -> None:
    """End a program that still runs. apart: with all that it started in its session."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            if apart:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()


def last_lines(output: IO[bytes], most: int = _LINES) -> tuple[str, ...]:
    """Return the last whole lines of an output, without empty ones around them."""
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - _TAIL))
    text = output.read(_TAIL).decode(errors="replace")
    if size > _TAIL:
        # The first line may begin in the middle of a password, which would then not be recognized and hidden.
        text = text.partition("\n")[2]
    return tuple(text.strip().splitlines()[-most:])
