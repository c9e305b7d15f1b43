"""Forks of an interpreter that has loaded its modules, for tests that start the same program a thousand times."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

# The status of a fork goes to the pipe that came with its request: several may run at once.
_SERVER = """
import atexit, contextlib, gc, json, os, signal, socket, sys, threading
{preload}
# A collection in a fork would copy every page that it looks at.
gc.freeze()

def run(asked):
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    # As the interpreter has opened its own: what a fork says of an error is out even if a signal ends it.
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, stream.mode, 1 if number == 2 else -1, stream.encoding, stream.errors)
        for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr))
    )
    sys.argv = asked["words"]
    status = 0
    try:
        exec({body!r}, {{"__name__": "__main__"}})
    except SystemExit as ended:
        status = ended.code or 0
        if not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

def reap(*_):
    while running:
        child, ended = os.waitpid(-1, os.WNOHANG)
        if not child:
            break
        # Its reader may be gone.
        with contextlib.suppress(BrokenPipeError), open(running.pop(child), "wb") as pipe:
            pipe.write(b"%d" % os.waitstatus_to_exitcode(ended))

control = socket.socket(fileno=int(sys.argv[1]))
running = {{}}
signal.signal(signal.SIGCHLD, reap)
while True:
    data, descriptors, _, _ = socket.recv_fds(control, 1 << 20, 4)
    if not data:
        break
    *streams, ended = descriptors
    # It may end before its pipe is noted.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    child = os.fork()
    if not child:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        control.close()
        for pipe in [ended, *running.values()]:
            os.close(pipe)
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
            os.close(descriptor)
        run(json.loads(data))
    os.write(ended, b"%10d" % child)
    running[child] = ended
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    for descriptor in streams:
        os.close(descriptor)
"""

ISOLATED = (sys.executable, "-I", "-S")
"""The command line of an interpreter without packages and settings."""


class Forks:
    """An interpreter, started by `python`, that runs `preload` once and `body` in each fork."""

    def __init__(self, python: Sequence[str], preload: str, body: str) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server = _SERVER.format(preload=preload, body=body)
        with theirs:
            command = [*python, "-c", server, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)

    def start(
        self, words: Sequence[str], environment: Mapping[str, str], streams: Sequence[int], folder: Path | str = "."
    ) -> int:
        """Start a fork with this argv and these three streams; return a pipe for `status`."""
        ended, theirs = os.pipe()
        asked = {"words": words, "environment": dict(environment), "folder": str(Path(folder).absolute())}
        try:
            socket.send_fds(self._control, [json.dumps(asked).encode()], [*streams, theirs])
        finally:
            os.close(theirs)
        return ended

    def run(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        folder: Path | str = ".",
        given: bytes = b"",
        timeout: float | None = None,
    ) -> tuple[int, bytes, bytes]:
        """Run a fork to its end; return its exit status, its output and its errors. given: its standard input."""
        with tempfile.TemporaryFile() as read, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            read.write(given)
            read.seek(0)
            streams = [one.fileno() for one in (read, out, err)]
            ended = status(self.start(words, environment, streams, folder), timeout)
            out.seek(0)
            err.seek(0)
            return ended, out.read(), err.read()

    def close(self) -> None:
        """End the interpreter."""
        self._control.close()
        self._process.wait()


@cache
def shared(command: tuple[str, ...], preload: str, body: str) -> Forks:
    """Return the one process of this kind, which ends with this one."""
    made = Forks(command, preload, body)
    atexit.register(made.close)
    return made


def status(ended: int, timeout: float | None = None) -> int:
    """Wait for the end of a fork; return its exit status, or minus its signal.

    A fork that is at work after `timeout` seconds is killed: TimeoutExpired.
    """
    with os.fdopen(ended, "rb", buffering=0) as pipe:
        process = int(pipe.read(10))
        if not select.select([pipe], [], [], timeout)[0]:
            os.kill(process, signal.SIGKILL)
            raise subprocess.TimeoutExpired("a fork", timeout or 0)
        return int(pipe.read())
