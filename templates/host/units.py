"""Units of systemd, as the deploy account may change them: by sudo, with the exact words of its rules."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from . import programs
from .run import Run

SYSTEMCTL = "/usr/bin/systemctl" if os.path.exists("/usr/bin/systemctl") else "/bin/systemctl"
"""As the rules have it: below /bin where that is a directory of its own."""
_LINE = 4000
"""Letters of a line of the journal that are reported: a line has no end but what is set to it."""


class Child(programs.Started):
    """A program that was started, and is waited for later."""

    def __init__(self, *words: str) -> None:
        # What it writes may be heard by nobody any more, which is no reason for it to end.
        super().__init__(*words, restore_signals=False)

    def wait(self) -> bool:
        """Its end; whether it did what it was told."""
        return self.ends_within(float("inf")) and self.well

    def ended(self, run: Run, seconds: float) -> bool:
        """Whether it ends within so many seconds. A signal ends the wait, and not the program."""
        end = time.monotonic() + seconds
        while not self.ends_within(min(0.05, end - time.monotonic())):
            if time.monotonic() >= end:
                return False
            run.heed()
        return True


def systemctl(*words: str) -> Child:
    """Begin to tell systemd something."""
    return Child(*(() if os.geteuid() == 0 else ("sudo", "-n")), SYSTEMCTL, *words)


def allowed(*words: str) -> bool:
    """Whether the rules of sudo know these words; nothing is done."""
    return os.geteuid() == 0 or programs.ask("sudo", "-n", "-l", SYSTEMCTL, *words).well


def show(unit: str, *properties: str) -> Mapping[str, str]:
    """These properties of a unit; empty where systemd does not answer."""
    words = (word for name in properties for word in ("-p", name))
    told = programs.ask("systemctl", "show", unit, "--no-pager", *words)
    pairs = (line.partition("=") for line in told.output.splitlines())
    return {key: value for key, _, value in pairs} if told.well else {}


def states(*units: str) -> list[str]:
    """Whether each is active, inactive, failed or on its way; as many words as units."""
    told = programs.ask("systemctl", "is-active", *units).output.split()
    return [*told, *["unknown"] * len(units)][: len(units)]


def said(run: Run, unit: str, *options: str) -> None:
    """Report what a unit said last, and apart from it what systemd said of the unit."""
    run.reports(words(unit, *options))


def words(unit: str, *options: str) -> list[tuple[str, str]]:
    """A line `journal` for each that a unit said last, and `systemd` for each that systemd said of the unit.

    Both by what journald saw, whatever the lines claim.
    """
    found = [("journal", line) for line in _lines(*options, f"_SYSTEMD_UNIT={unit}")]
    by_systemd = _lines(*options, "_PID=1", "_UID=0", f"UNIT={unit}")
    # What it says of a unit's end begins with the unit's name; that a job has begun or ended tells nobody why.
    return [*found, *(("systemd", line) for line in by_systemd if line.startswith(f"{unit}: "))]


def _lines(*words: str) -> list[str]:
    text = programs.ask("journalctl", "-q", "--no-pager", "-o", "cat", *words).output.rstrip("\n")
    return [line[:_LINE] for line in text.split("\n")] if text else []
