"""Run `build` of service.yaml on the controller, before a release is made of what it leaves in `service/`."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from tasks.engine.errors import LoopError, UsageError
from tasks.engine.release import archive, included_files

_SECONDS = 1800
_LINES = 20
_TAIL = 1 << 16
"""Bytes of the output that are read at most, from its end."""


def run(command: str, root: Path, include: Mapping[str, str]) -> tuple[str, ...]:
    """Run the command in the project's root; return the paths of a release that it changed, made or removed.

    include: paths and globs, each with its place in service.yaml; LoopError with the last lines of its output if the
    command fails or does not end
    """
    before = _digests(root, include)
    with tempfile.TemporaryFile() as output:
        reason = _perform(command, root, output)
        if reason:
            raise LoopError(
                f"the build failed on this machine, and no host was contacted: {reason}",
                where=f"build: {command}",
                next="correct what it reports, or `build` in service/service.yaml",
                detail=_last_lines(output),
                code="build",
            )
    after = _digests(root, include)
    return tuple(path for path in sorted({*before, *after}) if before.get(path) != after.get(path))


def _perform(command: str, root: Path, output: IO[bytes]) -> str:
    """Run the command; return why it failed, or nothing."""
    try:
        process = subprocess.Popen(
            shlex.split(command), cwd=root, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return f"it cannot be started: {error.strerror}"
    try:
        status = process.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        _kill(process)
        return f"it did not end in {_SECONDS // 60} minutes"
    except BaseException:
        _kill(process)
        raise
    return f"it ended with status {status}" if status else ""


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the command and all that it started in its session."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_lines(output: IO[bytes]) -> tuple[str, ...]:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - _TAIL))
    return tuple(output.read().decode(errors="replace").splitlines()[-_LINES:])


def _digests(root: Path, include: Mapping[str, str]) -> dict[str, tuple[int, str]]:
    """Return mode and digest of each file that a release would have now; none if it cannot be made yet."""
    there = {pattern: place for pattern, place in include.items() if _matches(root, pattern)}
    try:
        return {entry.path: (entry.mode, entry.sha256) for entry in archive.collect(root, there).entries}
    except UsageError:
        return {}


def _matches(root: Path, pattern: str) -> bool:
    try:
        return bool(included_files.find(root / "service", {pattern: ""}))
    except UsageError:
        return False
