"""Faults at a moment: as soon as `fab` has printed a given line."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.clone import Clone, Ended, Process

LINES = (
    "plan      connect",
    "plan      deploy",
    "stage     send",
    "stage     receive",
    "stage     link",
    "stage     verify",
    "stage     venv",
    "stage     staged",
    "activate  start",
    "activate  check",
    "activate  switch",
    "activate  committed",
)
"""The lines of a deploy for one host; its last one, `drain`, is left out."""
MOMENTS = tuple(line for line in LINES if line.split()[1] not in {"link", "verify"})
"""The lines of steps that last for a measurable time."""
SIGNALS = {"INT": (signal.SIGINT, 130), "TERM": (signal.SIGTERM, 143), "HUP": (signal.SIGHUP, 129)}


@dataclass
class Struck(Ended):
    """The result of a `fab` with a fault. seconds: from the fault to its end."""

    seconds: float


def strike(clone: Clone, words: tuple[str, ...], line: str, act: Callable[[], object], timeout: float = 300) -> Struck:
    """Run `fab WORDS` and act at the first line with `line`, which must come. out holds err, too, in order."""
    return meet(clone, words, line, lambda _: act(), timeout)


def meet(
    clone: Clone,
    words: tuple[str, ...],
    line: str,
    act: Callable[[Process], object],
    timeout: float = 300,
) -> Struck:
    """Run `fab WORDS` and call `act` with its process at the first line with `line`, which must come."""
    with clone.start(*words, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        shown = ""
        try:
            while line not in shown:
                text = process.stdout.readline()
                assert text, f"fab {' '.join(words)} ended without {line!r}:\n{shown}"
                shown += text
            act(process)
            acted = time.monotonic()
            out, _ = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return Struck(process.returncode, shown + out, "", time.monotonic() - acted)
