"""A fault at a moment: when `fab` has said that it is there."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.clone import Clone, Ended

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
"""What a deploy says of a host, line by line; `drain`, which comes next, is its end."""
MOMENTS = tuple(line for line in LINES if line.split()[1] not in {"link", "verify"})
"""Those that last for more than a blink."""
SIGNALS = {"INT": (signal.SIGINT, 130), "TERM": (signal.SIGTERM, 143), "HUP": (signal.SIGHUP, 129)}

Process = subprocess.Popen[str]


@dataclass
class Struck(Ended):
    """What a `fab` came to that something was done to. seconds: from then to its end."""

    seconds: float


def strike(clone: Clone, words: tuple[str, ...], line: str, act: Callable[[], object], timeout: float = 300) -> Struck:
    """Run `fab WORDS` and act at the first line that holds `line`; it has to come. err is in out, in its order."""
    return meet(clone, words, line, lambda _: act(), timeout)


def meet(
    clone: Clone,
    words: tuple[str, ...],
    line: str,
    act: Callable[[Process], object],
    timeout: float = 300,
) -> Struck:
    """The same, for what is done to `fab` itself."""
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
