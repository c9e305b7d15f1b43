"""Get wheels by pip: download those that fit a target, build a requirement that has only its source.

Indexes, mirrors and certificates come from the operator's own pip configuration. Pip's output is shown, never parsed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from packaging.version import Version

from tasks.engine.release.lockfile import LockedRequirement
from tasks.engine.release.python_target import Target

_REPRODUCIBLE = "315532800"
"""1980-01-01, the oldest time a zip can hold: two builds of one source make the same wheel."""


class Outcome(NamedTuple):
    """The result of a run of pip: its success and the last lines of its output."""

    done: bool
    lines: tuple[str, ...]


def download(requirements: Iterable[LockedRequirement], target: Target, into: Path, *, retries: int = 5) -> Outcome:
    """Download the wheels that fit the target, of all the requirements or of none, into a directory."""
    python = Version(target.python.rstrip("+")).base_version
    options = ["--only-binary", ":all:", "--dest", str(into), "--python-version", python]
    options += ["--implementation", target.short, "--abi", target.abi, "--retries", str(retries)]
    options += [argument for tag in target.platforms for argument in ("--platform", tag)]
    return _run("download", requirements, options, into)


def build(requirement: LockedRequirement, into: Path) -> Outcome:
    """Build the locked source of one requirement into a wheel, with this controller's Python."""
    options = ["--no-binary", requirement.name, "--wheel-dir", str(into), "--ignore-requires-python", "--retries", "1"]
    return _run("wheel", [requirement], options, into)


def _run(verb: str, requirements: Iterable[LockedRequirement], options: list[str], into: Path) -> Outcome:
    """Run pip, and let it accept only files with the hashes of the lock."""
    wanted = into / "wanted.txt"
    wanted.write_text("".join(f"{_with_hashes(item)}\n" for item in requirements), encoding="utf-8")
    command = [sys.executable, "-m", "pip", verb, "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    command += ["--no-deps", "--require-hashes", "--requirement", str(wanted), *options]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": _REPRODUCIBLE, "NO_COLOR": "1"}
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    return Outcome(done.returncode == 0, tuple(lines[-10:]))


def _with_hashes(requirement: LockedRequirement) -> str:
    return " ".join([str(requirement), *(f"--hash=sha256:{digest}" for digest in requirement.hashes)])
