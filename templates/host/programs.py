"""Run programs of the system: by name, with an empty standard input, and with a limit to every wait.

No program writes to our standard output: what a program prints is returned, or reported line by line.
"""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

SECONDS = 90
"""Seconds that a program may take: as long as systemd's own limit for a unit to start or stop."""
LATE = 124
"""Exit status of a program that took too long."""
verbose = False
"""True: print each program before it starts."""
KEPT = 1 << 20
"""Bytes to keep of a program's output."""
tell: Callable[[str], object] = print
"""Takes each output line of a program that `ask` did not start. `tell` must not raise: the program is at work."""
_LONGEST, _LOOK = 1 << 16, 0.05
"""Bytes of an output line, and seconds between two looks at a silent program."""


class Ended(NamedTuple):
    """The end of a program. status: 124 if it took too long, 127 if it does not exist."""

    status: int
    output: str

    @property
    def well(self) -> bool:
        """True if the program succeeded."""
        return self.status == 0


def ask(*words: str, data: bytes = b"", seconds: float = SECONDS, errors: bool = False) -> Ended:
    """Run a program to its end and return its output; errors: with its standard error."""
    show(words)
    stderr = subprocess.STDOUT if errors else subprocess.DEVNULL
    try:
        ended = subprocess.run(words, input=data, stdout=subprocess.PIPE, stderr=stderr, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return Ended(LATE, f"{words[0]} did not end within {seconds:.0f} s")
    except FileNotFoundError:
        return Ended(127, f"there is no {words[0]}")
    return Ended(ended.returncode, ended.stdout[:KEPT].decode("utf-8", "replace"))


class Started:
    """A running program. Its output, errors included, is reported while a caller waits for its end."""

    def __init__(self, *words: str, environment: Mapping[str, str] | None = None, restore_signals: bool = True) -> None:
        show(words)
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            restore_signals=restore_signals,
        )
        assert self._process.stdout is not None
        self._pipe, self._line = self._process.stdout, b""

    def ends_within(self, seconds: float) -> bool:
        """Wait for the program's end, at most `seconds`; return whether it ended."""
        end = time.monotonic() + seconds
        while self._process.poll() is None:
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._hear(min(left, _LOOK))
        # The program's children may live on and keep the pipe open: read only what is in the pipe now.
        if not self._pipe.closed:
            self._hear(0)
            self._pipe.close()
        self._cut()
        return True

    @property
    def well(self) -> bool:
        """True if the program has ended and succeeded."""
        return self._process.returncode == 0

    def kill(self) -> None:
        """Kill the program and wait for its end."""
        self._process.kill()
        self.ends_within(float("inf"))

    def _hear(self, seconds: float) -> None:
        """Report its next output, if any comes within `seconds`."""
        if self._pipe.closed:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        elif select.select([self._pipe], [], [], seconds)[0]:
            data = os.read(self._pipe.fileno(), _LONGEST)
            if not data:
                self._pipe.close()
            *lines, self._line = (self._line + data).split(b"\n")
            for line in lines:
                _tell(line)
            if len(self._line) > _LONGEST:
                self._cut()

    def _cut(self) -> None:
        if self._line:
            _tell(self._line)
        self._line = b""


def _tell(line: bytes) -> None:
    tell(line.decode("utf-8", "surrogateescape"))


def run(*words: str, seconds: float = SECONDS, environment: Mapping[str, str] | None = None) -> bool:
    """Run a program to its end and report its output; return whether it succeeded."""
    try:
        started = Started(*words, environment=environment)
    except FileNotFoundError:
        return False
    if not started.ends_within(seconds):
        started.kill()
    return started.well


def show(words: tuple[str, ...]) -> None:
    """Print a program that is about to start, if `verbose` is set."""
    if verbose:
        print("+", shlex.join(words), flush=True)  # noqa: T201


def systemctl(*words: str) -> bool:
    """Run systemctl; return whether it succeeded."""
    return run("systemctl", *words)


def unit_property(unit: str, name: str) -> str:
    """Return a property of a unit; empty if systemd does not answer."""
    return ask("systemctl", "show", "--no-pager", "-p", name, "--value", unit).output.strip()


def active(unit: str) -> bool:
    """Return whether a unit is active."""
    return ask("systemctl", "is-active", "-q", unit).well


def there(name: str) -> bool:
    """Return whether the host has a program of this name."""
    return bool(find(name))


def find(name: str) -> str:
    """Return the path of a program, as `command -v` prints it; empty if there is none."""
    for folder in os.environ["PATH"].split(":"):
        path = f"{folder}/{name}"
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return ""


def remove_tree(path: str) -> bool:
    """Remove everything at a path, however deep, but no link's target; return whether it is gone."""
    return run("rm", "-rf", "--", path)
