"""Run one program within limits: no shell, no input, a deadline, capped output, and nothing of it left behind."""

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
    """What the program said and how it ended: a negative exit status is the number of the signal that ended it."""

    exit_status: int
    stdout: str
    stderr: str
    seconds: float
    truncated: bool


def run(argv: Sequence[str], *, timeout: float, max_output: int) -> Outcome:
    """Run to its end, at most `timeout` seconds; keep `max_output` bytes of stdout and of stderr; kill what it leaves.

    Its environment is PATH and LC_ALL=C: the secrets of the service are none of its business.
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
    """Read until the program has ended and said all, or time is up: (ended, truncated, [stdout, stderr]).

    Past the limit it reads on and throws away. A child that holds the output open does not hold up the end.
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
    """Look without reaping: until the program is reaped, its group cannot become somebody else's."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
