"""Run one program within limits: no shell, no input, a deadline, capped output, no process left behind."""

from __future__ import annotations

import fcntl
import os
import selectors
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import NamedTuple


class Outcome(NamedTuple):
    """The output and the exit status of a program; a negative status is the number of the signal that ended it."""

    exit_status: int
    stdout: str
    stderr: str
    seconds: float
    truncated: bool


@contextmanager
def place(count: int, folder: str) -> Iterator[bool]:
    """Hold one of `count` places, which all workers share, for the block; yield False if all are taken.

    A place is a lock on a file of `folder`, the state directory: when a worker dies, the kernel frees it.
    """
    for number in range(count):
        with Path(folder, f".place-{number}").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield True
            return
    yield False


def run(argv: Sequence[str], env: Mapping[str, str], *, timeout: float, max_output: int) -> Outcome:
    """Run `argv` for at most `timeout` seconds, keep `max_output` bytes of stdout and of stderr, kill all children.

    The environment is PATH, LC_ALL=C and `env` alone, so the program sees no secret of the service.
    Raises TimeoutError at the deadline, and OSError if the program cannot be started.
    """
    started = time.monotonic()
    variables = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **env}
    # In a session of its own, so that its children can be ended with it.
    with Popen(argv, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True, cwd="/", env=variables) as child:
        try:
            ended, truncated, kept = _follow(child, started + timeout, max_output)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
    if not ended:
        raise TimeoutError
    stdout, stderr = (stream.decode("utf-8", "replace") for stream in kept)
    return Outcome(child.returncode, stdout, stderr, round(time.monotonic() - started, 3), truncated)


def _follow(child: Popen[bytes], deadline: float, limit: int) -> tuple[bool, bool, list[bytearray]]:
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
            # Not reaped yet: until then the kernel gives its group id to no other process.
            ended = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return ended, truncated, kept
