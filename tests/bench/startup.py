"""The time that `fab` takes to start: our verbs, beside a fabfile of one task."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from tests.support.clone import FAB, ROOT

WORDS: Mapping[str, tuple[str, ...]] = {"list": ("--list",), "completion": ("--complete", "--", "fab de")}
"""The arguments of each case, for both."""
RUNS = 9
"""Runs of each in each round, after one that does not count."""
_ONE = '''from fabric import task


@task
def deploy(c):
    """The only task."""
'''


def measure(folder: Path, rounds: int) -> dict[str, tuple[float, float]]:
    """Return the medians in seconds, ours and the other's, measured in turns."""
    folder.mkdir(parents=True)
    (folder / "fabfile.py").write_text(_ONE)
    found = {}
    for name, words in WORDS.items():
        took: tuple[list[float], list[float]] = ([], [])
        for _ in range(1 + RUNS * rounds):
            for seconds, place in zip(took, (ROOT, folder), strict=True):
                began = time.perf_counter()
                subprocess.run([FAB, *words], cwd=place, stdout=subprocess.DEVNULL, check=True)
                seconds.append(time.perf_counter() - began)
        found[name] = (median(took[0][1:]), median(took[1][1:]))
    return found
