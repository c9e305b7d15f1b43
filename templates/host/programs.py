"""Programs of the system: started by name, with an empty standard input, and with an end to every wait.

None writes where this one does: its output is an answer, or is told line by line.
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
"""How long a program may take; systemd's own limit for a unit to start or stop is as long."""
LATE = 124
"""The status of a program that took too long."""
verbose = False
"""Whether each program is shown before it starts."""
KEPT = 1 << 20
"""Bytes of a program's output that are kept."""
tell: Callable[[str], object] = print
"""What is done with a line of a program that was not asked for an answer. It raises nothing: the program is at work."""
_LONGEST, _LOOK = 1 << 16, 0.05
"""Bytes of such a line, and seconds between two looks at a program that writes nothing."""


class Ended(NamedTuple):
    """How a program ended. status: 124 for one that took too long, 127 for one that is not there."""

    status: int
    output: str

    @property
    def well(self) -> bool:
        """Whether it succeeded."""
        return self.status == 0


def ask(*words: str, data: bytes = b"", seconds: float = SECONDS, errors: bool = False) -> Ended:
    """Run a program to its end and keep its output; errors: with what it writes to standard error."""
    show(words)
    said = subprocess.STDOUT if errors else subprocess.DEVNULL
    try:
        ended = subprocess.run(words, input=data, stdout=subprocess.PIPE, stderr=said, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return Ended(LATE, f"{words[0]} did not end within {seconds:.0f} s")
    except FileNotFoundError:
        return Ended(127, f"there is no {words[0]}")
    return Ended(ended.returncode, ended.stdout[:KEPT].decode("utf-8", "replace"))


class Started:
    """A program at work. Its output, errors with it, is told while somebody waits for its end."""

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
        """Wait for its end, for so many seconds at most."""
        end = time.monotonic() + seconds
        while self._process.poll() is None:
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._hear(min(left, _LOOK))
        # What it started may have the pipe, too, and live on: what is in it by now is all.
        if not self._pipe.closed:
            self._hear(0)
            self._pipe.close()
        self._cut()
        return True

    @property
    def well(self) -> bool:
        """Whether it has ended, and succeeded."""
        return self._process.returncode == 0

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self.ends_within(float("inf"))

    def _hear(self, seconds: float) -> None:
        """Tell what it writes next, if that comes within so many seconds."""
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
    """Run a program to its end, and tell its output; whether it succeeded."""
    try:
        started = Started(*words, environment=environment)
    except FileNotFoundError:
        return False
    if not started.ends_within(seconds):
        started.kill()
    return started.well


def show(words: tuple[str, ...]) -> None:
    """Show a program that is about to start, to who wants to see it."""
    if verbose:
        print("+", shlex.join(words), flush=True)  # noqa: T201


def systemctl(*words: str) -> bool:
    """Whether systemd did what it was told."""
    return run("systemctl", *words)


def unit_property(unit: str, name: str) -> str:
    """A property of a unit; empty when systemd does not answer."""
    return ask("systemctl", "show", "--no-pager", "-p", name, "--value", unit).output.strip()


def active(unit: str) -> bool:
    """Whether a unit is up."""
    return ask("systemctl", "is-active", "-q", unit).well


def there(name: str) -> bool:
    """Whether the host has a program of this name."""
    return bool(find(name))


def find(name: str) -> str:
    """The path of a program, as `command -v` would print it; empty where there is none."""
    for folder in os.environ["PATH"].split(":"):
        path = f"{folder}/{name}"
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return ""


def remove_tree(path: str) -> bool:
    """Remove everything at a path, however deep, and no link's target; whether it is gone."""
    return run("rm", "-rf", "--", path)
