"""Make the disks of the hosts: each is the upper half of an overlay, and not every file system can hold one."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tasks.engine.errors import UsageError
from tasks.engine.sandbox.programs import Say


def choose_directory(state_dir: Path, cache: Path, say: Say) -> Path:
    """Return a directory for the hosts' disks: below the state directory, or elsewhere if that holds no overlay."""
    candidates = [state_dir, cache, Path("/dev/shm")]  # noqa: S108 - the last resort, root's own name
    for candidate in candidates:
        candidate.mkdir(parents=True, exist_ok=True)
        if _holds_overlay(candidate):
            if candidate == state_dir:
                return state_dir / "disks"
            disks = Path(tempfile.mkdtemp(prefix="integrators-loop-disks-", dir=candidate))
            disks.chmod(0o755)
            say(f"{state_dir} cannot hold a writable overlay; the hosts' disks are in {disks}")
            return disks
    raise UsageError(
        "no file system here can hold a writable overlay: " + ", ".join(map(str, candidates)),
        next="put the project on ext4, xfs, btrfs or tmpfs",
    )


def make(disk: Path) -> None:
    """Make an empty disk. Only root may look into it: it holds a host's set-user-ID programs and secrets."""
    disk.mkdir(mode=0o700, parents=True)
    for part in ("upper", "work", "root"):
        (disk / part).mkdir()
    (disk / "upper").chmod(0o755)


def _holds_overlay(directory: Path) -> bool:
    """Return True if an overlay mounts here and can replace a directory of its lower half, which needs xattrs."""
    replace = (
        "mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work root && rmdir root/x && mkdir root/x"
    )
    with tempfile.TemporaryDirectory(prefix=".overlay-", dir=directory) as name:
        for part in ("lower/x", "upper", "work", "root"):
            (Path(name) / part).mkdir(parents=True)
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", replace]
        return subprocess.run(command, cwd=name, capture_output=True).returncode == 0
