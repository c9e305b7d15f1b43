"""Programs of the system: started by name, with an empty standard input, and with an end to every wait."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import NamedTuple

SECONDS = 90
"""How long a program may take; systemd's own limit for a unit to start or stop is as long."""
LATE = 124
"""The status of a program that took too long."""
verbose = False
"""Whether each program is shown before it starts."""
KEPT = 1 << 20
"""Bytes of a program's output that are kept."""


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
    return _run(words, data, seconds, subprocess.PIPE, subprocess.STDOUT if errors else subprocess.DEVNULL)


def run(*words: str, seconds: float = SECONDS, environment: dict[str, str] | None = None) -> bool:
    """Run a program to its end, with its output in ours; whether it succeeded."""
    return _run(words, b"", seconds, None, None, environment).well


def _run(
    words: tuple[str, ...],
    data: bytes,
    seconds: float,
    output: int | None,
    errors: int | None,
    environment: dict[str, str] | None = None,
) -> Ended:
    show(words)
    try:
        ended = subprocess.run(
            words,
            input=data,
            stdout=output,
            stderr=errors,
            timeout=seconds,
            check=False,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired:
        return Ended(LATE, f"{words[0]} did not end within {seconds:.0f} s")
    except FileNotFoundError:
        return Ended(127, f"there is no {words[0]}")
    return Ended(ended.returncode, (ended.stdout or b"")[:KEPT].decode("utf-8", "replace"))


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
