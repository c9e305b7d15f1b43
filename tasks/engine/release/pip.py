"""Get wheels by pip: download those that fit a target, build a requirement that has only its source.

Pip's output is shown, never parsed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from packaging.version import Version

from tasks.engine import local_program
from tasks.engine.release.indexes import Indexes
from tasks.engine.release.lockfile import LockedRequirement
from tasks.engine.release.python_target import Target

_LOOK = 0.5
"""Seconds between two measurements of the progress."""
REPRODUCIBLE = "315532800"
"""1980-01-01, the oldest time a zip can hold: two builds of one source make the same wheel."""
_SILENT = 60.0
"""Seconds without a byte on the disk after which pip is ended; it writes downloads 256 kB at a time.

Left alone, pip retries every package at an index that does not answer.
"""
_MOST = 1800.0
"""Seconds that one run of pip may take in all."""
_REFUSED = 1
"""Exit status of pip for what it expects, such as a package that is nowhere."""


class Outcome(NamedTuple):
    """The result of a run of pip: its success and the last lines of its output.

    late: why we ended it, if we did
    broken: pip met an error that it does not expect, such as no memory left
    """

    done: bool
    lines: tuple[str, ...]
    late: str = ""
    broken: bool = False


def download(
    requirements: Iterable[LockedRequirement], target: Target, into: Path, indexes: Indexes, *, retries: int = 5
) -> Outcome:
    """Download wheels that fit the target into a directory: one for each requirement, or none at all."""
    python = Version(target.python.rstrip("+")).base_version
    options = ["--only-binary", ":all:", "--dest", str(into), "--python-version", python]
    options += ["--implementation", target.short, "--abi", target.abi, "--retries", str(retries)]
    options += [argument for tag in target.platforms for argument in ("--platform", tag)]
    return _run("download", requirements, options, into, indexes)


def build(requirement: LockedRequirement, into: Path, indexes: Indexes) -> Outcome:
    """Build the locked source of one requirement into a wheel, with this controller's Python."""
    # Otherwise pip starts another pip for what the build needs, with the indexes' passwords as arguments.
    options = ["--use-feature", "inprocess-build-deps"]
    options += ["--no-binary", requirement.name, "--wheel-dir", str(into), "--ignore-requires-python", "--retries", "1"]
    return _run("wheel", [requirement], options, into, indexes)


def _run(
    verb: str, requirements: Iterable[LockedRequirement], options: list[str], into: Path, indexes: Indexes
) -> Outcome:
    """Run pip, and let it accept only files with the hashes of the lock."""
    wanted = into / "wanted.txt"
    lines = [" ".join([str(item), *(f"--hash=sha256:{one}" for one in item.hashes)]) for item in requirements]
    wanted.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = [sys.executable, "-m", "pip", verb, "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    command += ["--no-deps", "--require-hashes", "--requirement", str(wanted), *options]
    # pip downloads and builds below this directory, where its progress can be measured.
    (into / "tmp").mkdir(exist_ok=True)
    environment = {
        **indexes.for_pip(),
        "SOURCE_DATE_EPOCH": REPRODUCIBLE,
        "NO_COLOR": "1",
        "TMPDIR": str(into / "tmp"),
    }
    with tempfile.TemporaryFile() as said:
        status, late = _watched(command, environment, into, said)
        printed = local_program.last_lines(said, 10)
    return Outcome(status == 0, indexes.hide(printed), late, status not in (0, _REFUSED, None))


def _watched(command: list[str], environment: Mapping[str, str], into: Path, said: IO[bytes]) -> tuple[int | None, str]:
    """Run pip to its end, or end it when it makes no progress. Return its status, or None and why we ended it."""
    began = moved = time.monotonic()
    seen = _arrived(into)
    # A build gets a session of its own, to be ended with all its children. A download stays in ours, and gets Ctrl-C.
    apart = "wheel" in command
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
        start_new_session=apart,
    ) as process:  # fmt: skip
        if not apart:
            # A build may need any amount: it runs the package's code, and compilers.
            local_program.limit_memory(process)
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(_LOOK), ""
                now = time.monotonic()
                if (there := _arrived(into)) != seen:
                    seen, moved = there, now
                if now - moved > _SILENT:
                    return None, f"nothing came for {_SILENT:g} s"
                if now - began > _MOST:
                    return None, f"it had not ended after {_MOST:g} s"
        finally:
            local_program.end(process, apart=apart)


def _arrived(folder: Path) -> tuple[int, int]:
    """Return the number of files below a directory, and their bytes."""
    number = size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += os.lstat(f"{place}/{name}").st_size
            number += 1
    return number, size
