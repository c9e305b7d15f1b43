"""Ask git about `service/`: its files, its commit, and what differs from it. Without git, list the files alone."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tasks.engine.errors import UsageError
from tasks.engine.release import file_rules

_HOOK_VARIABLES = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"})


def files(root: Path) -> list[bytes]:
    """Return the paths below `root/service` that git tracks or would track; outside of git all but caches and venvs."""
    folder = root / "service"
    if not folder.is_dir():
        raise UsageError("there is no service/ here", where=str(root), next="run fab in a clone of the template")
    if not _in_git(folder):
        return sorted(walk(os.fsencode(folder), b""))
    listed = set(_git(folder, "ls-files", "-co", "--exclude-standard", "-z").split(b"\0")) - {b""}
    return sorted(name for name in listed if os.path.lexists(os.path.join(os.fsencode(folder), name)))  # noqa: PTH118


def ignored(root: Path) -> list[bytes]:
    """Return the paths below `root/service` that git ignores, directories of such files with a slash at their end."""
    folder = root / "service"
    if not _in_git(folder):
        return []
    listed = _git(folder, "ls-files", "-oi", "--exclude-standard", "--directory", "-z").split(b"\0")
    return [name for name in listed if name]


def commit(root: Path) -> str | None:
    """Return the full id of the commit that is checked out; None outside of git or before the first commit."""
    folder = root / "service"
    if not _in_git(folder):
        return None
    return _run(folder, "rev-parse", "--verify", "--quiet", "HEAD").stdout.decode().strip() or None


def origin(root: Path) -> str:
    """Return the address of the git remote `origin` without user, password and query; "" where there is none."""
    folder = root / "service"
    if not _in_git(folder):
        return ""
    address = _run(folder, "config", "--get", "remote.origin.url").stdout.decode("utf-8", "replace").strip()
    address = re.sub(r"^([a-z][a-z0-9+.-]*://)[^/@]*@", r"\1", address, flags=re.IGNORECASE)
    address = re.split(r"[?#]", address)[0]
    return address if re.fullmatch(r"[!-~]{1,500}", address) else ""


def dirty(root: Path) -> tuple[str, ...]:
    """Return the paths below `service/` that differ from the commit: changed, added, deleted, untracked."""
    folder = root / "service"
    if not _in_git(folder):
        return ()
    if commit(root) is None:
        names = set(files(root))
    else:
        changed = _git(folder, "diff", "--name-only", "--no-renames", "--relative", "-z", "HEAD", "--", ".")
        names = set((changed + _git(folder, "ls-files", "-o", "--exclude-standard", "-z")).split(b"\0")) - {b""}
    return tuple(sorted(name for name in map(os.fsdecode, names) if not file_rules.is_litter(name)))


def _in_git(folder: Path) -> bool:
    """Return True if a directory above holds `.git`. Does not ask git: a git that fails must not count as none."""
    here = folder.resolve()
    return any((above / ".git").exists() for above in (here, *here.parents))


def _git(folder: Path, *arguments: str) -> bytes:
    """Return the output of a git command; UsageError with the last lines of git's own message when it fails."""
    done = _run(folder, *arguments)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(
            "git cannot read this checkout",
            where="service/",
            next="fix what git reports: git -C service status",
            detail=tuple(lines[-5:]),
        )
    return done.stdout


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
    """Return every path below a directory, after `prefix`, but caches and venvs; follow no links."""
    paths: list[bytes] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = os.fsdecode(entry.name)
            if name in file_rules.CACHES or file_rules.is_litter(name):
                continue
            if entry.is_dir(follow_symlinks=False):
                paths += walk(entry.path, prefix + entry.name + b"/")
            else:
                paths.append(prefix + entry.name)
    return paths
