"""Run a program on this machine that may print anything, start anything and never end."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

_LINES = 20
_TAIL = 1 << 16
"""Bytes of the output that are read at most, from its end."""


class Ended(NamedTuple):
    """The end of a program. status: None if it took too long and was ended; lines: the last lines of its output."""

    status: int | None
    lines: tuple[str, ...]


def run(
    command: Sequence[str],
    *,
    seconds: float | None,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    apart: bool = True,
) -> Ended:
    """Run a program to its end, with an empty standard input; OSError if it cannot be started.

    What it started may live on, unless it takes too long or we are interrupted: then all of its session is ended.
    apart: False for a program that shares our session, and gets our Ctrl-C; what it started is never ended
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=apart,
        )  # fmt: skip
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end(process, apart=apart)
        return Ended(status, last_lines(output))


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
