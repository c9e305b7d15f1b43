"""Change units of systemd as the deploy account may: by sudo, with the exact words of its rules."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence

from . import programs
from .run import Run

SYSTEMCTL = "/usr/bin/systemctl" if os.path.exists("/usr/bin/systemctl") else "/bin/systemctl"
"""The path in the sudo rules: below /bin if that is a directory of its own."""
_UP = {"reloading", "refreshing"}
"""States in which a unit runs, beside `active`. A service can enter the first by itself (sd_notify)."""
_STATE = 2
"""The column of `systemctl list-units` with a unit's state, after its name and LOAD."""
_LINE = 48 * 1024
"""Bytes to report of a journal line: journald cuts lines of standard output at this length, others can have any."""
_SECONDS = 15
"""Seconds in which the journal must give its lines. A service can log more than can be read in any time."""


class Child(programs.Started):
    """A program that runs while the caller goes on."""

    def __init__(self, *words: str) -> None:
        # The program must not end by SIGPIPE when nothing reads its output any more.
        super().__init__(*words, restore_signals=False)

    def wait(self) -> bool:
        """Wait for the program's end; return whether it succeeded."""
        return self.ends_within(float("inf")) and self.well

    def await_end(self, run: Run, seconds: float) -> bool:
        """Wait for the program's end, at most `seconds`; return whether it ended. A signal ends the wait alone."""
        end = time.monotonic() + seconds
        while not self.ends_within(min(0.05, end - time.monotonic())):
            if time.monotonic() >= end:
                return False
            run.heed()
        return True


def systemctl(*words: str) -> Child:
    """Start systemctl, by sudo unless we are root."""
    return Child(*(() if os.geteuid() == 0 else ("sudo", "-n")), SYSTEMCTL, *words)


def allowed(*words: str) -> bool:
    """Return whether the sudo rules allow these words; nothing is executed."""
    return os.geteuid() == 0 or programs.ask("sudo", "-n", "-l", SYSTEMCTL, *words).well


def state(word: str) -> str:
    """Return systemd's ActiveState in the words that this program and the controller know: all that runs is active."""
    return "active" if word in _UP else word


def properties(text: str) -> dict[str, str]:
    """Return the properties in a block of `systemctl show`."""
    shown = {key: value for key, _, value in (line.partition("=") for line in text.splitlines())}
    return {**shown, "ActiveState": state(shown["ActiveState"])} if "ActiveState" in shown else shown


def show(unit: str, *names: str) -> Mapping[str, str]:
    """Return these properties of a unit; empty if systemd does not answer."""
    options = (word for name in names for word in ("-p", name))
    answer = programs.ask("systemctl", "show", unit, "--no-pager", *options)
    return properties(answer.output) if answer.well else {}


def show_all(units: Sequence[str], *names: str) -> dict[str, Mapping[str, str]]:
    """Return these properties of each unit, asked in one call; a unit without an answer is left out."""
    options = (word for name in names for word in ("-p", name))
    text = programs.ask("systemctl", "show", "--no-pager", *options, *units).output
    # systemctl prints the units in the order asked, an empty line between two.
    blocks = text.split("\n\n") if text else []
    return {name: properties(block) for name, block in zip(units, blocks)}


def states(*units: str) -> list[str]:
    """Return for each unit whether it is active, inactive, failed or changing; as many words as units."""
    found = ask_states(units) if units else {}
    return [found.get(unit, "unknown") for unit in units]


def ask_states(units: Sequence[str]) -> dict[str, str]:
    """Return the state of each unit, as `states` has it; empty if systemd does not answer.

    A unit that systemd has not loaded is inactive. `is-active` would load it, which takes ten times as long.
    """
    answer = programs.ask("systemctl", "list-units", "--all", "--full", "--plain", "--no-legend", *units)
    if not answer.well:
        return {}
    loaded = [words for words in map(str.split, answer.output.splitlines()) if len(words) > _STATE]
    return {**dict.fromkeys(units, "inactive"), **{words[0]: state(words[_STATE]) for words in loaded}}


def report_journal(run: Run, unit: str, *options: str) -> None:
    """Report the log lines of a unit and, separately, systemd's lines about the unit."""
    run.reports(journal_lines(unit, *options))


def journal_lines(unit: str, *options: str) -> list[tuple[str, str]]:
    """Return a report `journal` for each line that a unit logged, and `systemd` for each that systemd logged about it.

    The origin of a line is what journald saw, whatever the line claims.
    """
    by_unit = [("journal", line) for line in _lines(*options, f"_SYSTEMD_UNIT={unit}")]
    by_systemd = _lines(*options, "_PID=1", "_UID=0", f"UNIT={unit}")
    # systemd's lines about the end of a unit begin with the unit's name. Lines about jobs do not, and explain nothing.
    return [*by_unit, *(("systemd", line) for line in by_systemd if line.startswith(f"{unit}: "))]


def last_lines(invocations: Iterable[str], most: int) -> list[str]:
    """Return the last lines logged since these starts of units, `most` at most."""
    wanted = [f"_SYSTEMD_INVOCATION_ID={each}" for each in invocations]
    return _lines("-n", str(most), *wanted) if wanted else []


def _lines(*words: str) -> list[str]:
    command = ("journalctl", "-q", "--no-pager", "-o", "cat", *words)
    lines, whole = programs.last_lines(*command, seconds=_SECONDS, longest=_LINE)
    return lines if whole else [*lines, f"(journalctl did not end within {_SECONDS} s: later lines are left out)"]
