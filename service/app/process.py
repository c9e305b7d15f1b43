"""Run one program within limits: no shell, no input, a deadline, capped output, no process left behind."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class DeadlineError(Exception):
    """The program was still running at the deadline, and was killed with all its children."""


@dataclass(frozen=True)
class Outcome:
    """The output and the exit status of a program; a negative status is the number of the signal that ended it."""

    exit_status: int
    stdout: str
    stderr: str
    seconds: float
    truncated: bool


def run(argv: Sequence[str], *, timeout: float, max_output: int) -> Outcome:
    """Run `argv` for at most `timeout` seconds, keep `max_output` bytes of stdout and of stderr, kill all children.

    The environment is PATH and LC_ALL=C alone, so the program sees no secret of the service.
    Raises DeadlineError, and OSError when the program cannot be started.
    """
    started = time.monotonic()
    deadline = started + timeout
    # In a session of its own, so that its children can be ended with it.
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
        env={"PATH": os.environ.get("PATH", SEARCH_PATH), "LC_ALL": "C"},
    ) as child:
        try:
            ended, truncated, kept = _follow(child, deadline, max_output)
        finally:
            _kill_group(child.pid)
    if not ended:
        raise DeadlineError
    stdout, stderr = (stream.decode("utf-8", "replace") for stream in kept)
    return Outcome(child.returncode, stdout, stderr, round(time.monotonic() - started, 3), truncated)


def _follow(child: subprocess.Popen[bytes], deadline: float, limit: int) -> tuple[bool, bool, list[bytearray]]:
    """Read until the program has ended and its output is read, or time is up: (ended, truncated, [stdout, stderr]).

    Output past the limit is read and thrown away. A child that keeps the output open does not delay the return.
    """
    kept = [bytearray(), bytearray()]
    ended = truncated = False
    with selectors.DefaultSelector() as streams:
        for stream, buffer in ((child.stdout, kept[0]), (child.stderr, kept[1])):
            if stream:
                streams.register(stream, selectors.EVENT_READ, buffer)
        while time.monotonic() < deadline:
            ready = streams.select(0.05 if streams.get_map() and not ended else 0.001)
            for key, _events in ready:
                chunk = os.read(key.fd, 65536)
                room = limit - len(key.data)
                key.data.extend(chunk[:room])
                truncated = truncated or len(chunk) > room
                if not chunk:
                    streams.unregister(key.fileobj)
            if ended and not ready:
                break
            ended = _has_ended(child.pid)
    return ended, truncated, kept


def _has_ended(pid: int) -> bool:
    """Check without reaping: until the program is reaped, the kernel gives its group id to no other process."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
