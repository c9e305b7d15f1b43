"""The two calls of pip that bring wheels: download what fits a target, build what has only its source.

Indexes, mirrors and certificates are the operator's own pip configuration. What pip says is passed on, never read.
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
"""1980-01-01, the oldest time a zip can hold: the same source built twice is the same wheel."""


class Outcome(NamedTuple):
    """Whether pip did it, and its last lines."""

    done: bool
    words: tuple[str, ...]


def download(requirements: Iterable[LockedRequirement], target: Target, into: Path, *, retries: int = 5) -> Outcome:
    """Put the wheels of all the requirements that fit the target into a directory, or none of them."""
    python = Version(target.python.rstrip("+")).base_version
    options = ["--only-binary", ":all:", "--dest", str(into), "--python-version", python]
    options += ["--implementation", target.short, "--abi", target.abi, "--retries", str(retries)]
    options += [word for tag in target.platforms for word in ("--platform", tag)]
    return _run("download", requirements, options, into)


def build(requirement: LockedRequirement, into: Path) -> Outcome:
    """Build the locked source of one requirement into a wheel, with this controller's Python."""
    options = ["--no-binary", requirement.name, "--wheel-dir", str(into), "--ignore-requires-python", "--retries", "1"]
    return _run("wheel", [requirement], options, into)


def _run(verb: str, requirements: Iterable[LockedRequirement], options: list[str], into: Path) -> Outcome:
    """One run of pip that accepts nothing but the hashes of the lock."""
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
