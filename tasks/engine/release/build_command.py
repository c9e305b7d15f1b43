"""Run `build` of service.yaml on the controller, before a release is made of what it leaves in `service/`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from tasks.engine import local_program
from tasks.engine.errors import LoopError, UsageError
from tasks.engine.release import archive, included_files

_SECONDS = 1800


def run(command: str, root: Path, include: Mapping[str, str]) -> tuple[str, ...]:
    """Run the command in the project's root; return the paths of a release that it changed, made or removed.

    include: paths and globs, each with its place in service.yaml; LoopError with the last lines of its output if the
    command fails or does not end
    """
    before = _digests(root, include)
    reason, lines = _perform(command, root)
    if reason:
        raise LoopError(
            f"the build failed on this machine, and no host was contacted: {reason}",
            where=f"build: {command}",
            next="correct what it reports, or `build` in service/service.yaml",
            detail=lines,
            code="build",
        )
    after = _digests(root, include)
    return tuple(path for path in sorted({*before, *after}) if before.get(path) != after.get(path))


def _perform(command: str, root: Path) -> tuple[str, tuple[str, ...]]:
    """Run the command; return why it failed, or nothing, and the last lines of its output."""
    try:
        ended = local_program.run(shlex.split(command), folder=root, seconds=_SECONDS)
    except OSError as error:
        return f"it cannot be started: {error.strerror}", ()
    return ended.fault(f"{_SECONDS // 60} minutes"), ended.lines


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
