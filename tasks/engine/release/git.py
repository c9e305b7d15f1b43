"""Ask git about `service/`: its files, its commit, and what differs from it. Without git, list the files alone."""

from __future__ import annotations

import os
import re
import subprocess
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tasks.engine.errors import UsageError
from tasks.engine.parallel import run_in_thread
from tasks.engine.release import file_rules

_HOOK_VARIABLES = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"})


class Checkout(NamedTuple):
    """The state of `service/`.

    files: paths that git tracks or would track; outside of git all but caches and venvs
    commit: full id of the commit that is checked out; None outside of git or before the first commit
    dirty: paths that differ from the commit: changed, added, deleted, untracked
    """

    files: list[bytes]
    commit: str | None
    dirty: tuple[str, ...]


def read(root: Path) -> Checkout:
    """Return the state of `root/service`. Git answers the four questions at once."""
    folder = root / "service"
    if not folder.is_dir():
        raise UsageError("there is no service/ here", where=str(root), next="run fab in a clone of the template")
    if not _in_git(folder):
        return Checkout(sorted(walk(os.fsencode(folder), b"")), None, ())
    questions = (
        ("rev-parse", "--verify", "--quiet", "HEAD"),
        ("ls-files", "-c", "-z"),
        ("ls-files", "-o", "--exclude-standard", "-z"),
        ("diff", "--name-only", "--no-renames", "--relative", "-z", "HEAD", "--", "."),
    )
    asked = [run_in_thread(partial(_run, folder, *words)) for words in questions]
    head, tracked, untracked, changed = (answer.result() for answer in asked)
    commit = head.stdout.decode().strip() or None
    others = _names(untracked)
    listed = _names(tracked) | others
    files = sorted(name for name in listed if os.path.lexists(os.path.join(os.fsencode(folder), name)))  # noqa: PTH118
    # Before the first commit `git diff` has nothing to compare with.
    differing = _names(changed) | others if commit else files
    dirty = sorted(name for name in map(os.fsdecode, differing) if not file_rules.is_litter(name))
    return Checkout(files, commit, tuple(dirty))


def ignored(root: Path) -> list[bytes]:
    """Return the paths below `root/service` that git ignores, directories of such files with a slash at their end."""
    folder = root / "service"
    if not _in_git(folder):
        return []
    return sorted(_names(_run(folder, "ls-files", "-oi", "--exclude-standard", "--directory", "-z")))


def origin(root: Path) -> str:
    """Return the address of the git remote `origin` without user, password and query; "" where there is none."""
    folder = root / "service"
    if not _in_git(folder):
        return ""
    address = _run(folder, "config", "--get", "remote.origin.url").stdout.decode("utf-8", "replace").strip()
    address = re.sub(r"^([a-z][a-z0-9+.-]*://)[^/@]*@", r"\1", address, flags=re.IGNORECASE)
    address = re.split(r"[?#]", address)[0]
    return address if re.fullmatch(r"[!-~]{1,500}", address) else ""


def _in_git(folder: Path) -> bool:
    """Return True if a directory above holds `.git`. Does not ask git: a git that fails must not count as none."""
    here = folder.resolve()
    return any((above / ".git").exists() for above in (here, *here.parents))


def _names(done: subprocess.CompletedProcess[bytes]) -> set[bytes]:
    """Return the paths of an answer; UsageError with the last lines of git's own message if git failed."""
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(
            "git cannot read this checkout",
            where="service/",
            next="fix what git reports: git -C service status",
            detail=tuple(lines[-5:]),
        )
    return set(done.stdout.split(b"\0")) - {b""}


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run one git command in `service/`, so that its paths are relative to it.

    Drops the variables that git sets for a hook: they point to the hook's repository.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _HOOK_VARIABLES}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        return subprocess.run(["git", *arguments], cwd=folder, env=environment, capture_output=True, check=False)
    except FileNotFoundError:
        raise UsageError(
            "this is a git checkout, and there is no git to read it with",
            where="service/",
            next="install git",
        ) from None


def walk(folder: bytes, prefix: bytes) -> list[bytes]:
    """Return every path below a directory, each with `prefix` in front, but no caches and venvs; follow no links."""
    paths: list[bytes] = []
    # A list, not recursion: directories may lie deeper than Python calls.
    waiting = [(folder, prefix)]
    while waiting:
        place, above = waiting.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                name = os.fsdecode(entry.name)
                if name in file_rules.CACHES or file_rules.is_litter(name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, above + entry.name + b"/"))
                else:
                    paths.append(above + entry.name)
    return paths
