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
    """The program or a child of it was still there at the deadline, and was killed."""


@dataclass(frozen=True)
class Outcome:
    """What the program said and how it ended: a negative exit status is the number of the signal that ended it."""

    exit_status: int
    stdout: str
    stderr: str
    seconds: float
    truncated: bool


def run(argv: Sequence[str], *, timeout: float, max_output: int) -> Outcome:
    """Run to the end of its output, at most `timeout` seconds; keep `max_output` bytes of stdout and of stderr.

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
            kept, truncated = _collect(child, deadline, max_output)
            ended = _ends_by(deadline, child.pid)
        finally:
            _kill_group(child.pid)
    if not ended:
        raise DeadlineError
    stdout, stderr = (stream.decode("utf-8", "replace") for stream in kept)
    return Outcome(child.returncode, stdout, stderr, round(time.monotonic() - started, 3), truncated)


def _collect(child: subprocess.Popen[bytes], deadline: float, limit: int) -> tuple[list[bytearray], bool]:
    """Read stdout and stderr until both are closed or time is up; past the limit, read on and throw away."""
    kept = [bytearray(), bytearray()]
    truncated = False
    with selectors.DefaultSelector() as open_streams:
        for stream, buffer in ((child.stdout, kept[0]), (child.stderr, kept[1])):
            if stream:
                open_streams.register(stream, selectors.EVENT_READ, buffer)
        while open_streams.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _events in open_streams.select(left):
                chunk = os.read(key.fd, 65536)
                room = limit - len(key.data)
                key.data.extend(chunk[:room])
                truncated = truncated or len(chunk) > room
                if not chunk:
                    open_streams.unregister(key.fileobj)
    return kept, truncated


def _ends_by(deadline: float, pid: int) -> bool:
    """Wait for the program to end, and leave it unreaped: until then its group cannot become somebody else's."""
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.002)
    return True


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
