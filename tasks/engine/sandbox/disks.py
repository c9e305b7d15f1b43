"""Where the disks of the hosts lie: each is the upper half of an overlay, and not every file system can hold one."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tasks.engine.errors import UsageError
from tasks.engine.sandbox.programs import Say


def find_room(state_dir: Path, cache: Path, say: Say) -> Path:
    """Where the hosts' disks can lie: in the state directory, or where an overlay can be written if it cannot there."""
    candidates = [state_dir, cache, Path("/dev/shm")]  # noqa: S108 - the last resort, root's own name
    for candidate in candidates:
        candidate.mkdir(parents=True, exist_ok=True)
        if _holds_overlay(candidate):
            if candidate == state_dir:
                return state_dir / "disks"
            disks = Path(tempfile.mkdtemp(prefix="integrators-loop-disks-", dir=candidate))
            say(f"{state_dir} cannot hold a writable overlay; the hosts' disks are in {disks}")
            return disks
    raise UsageError(
        "no file system here can hold a writable overlay: " + ", ".join(map(str, candidates)),
        next="put the project on ext4, xfs, btrfs or tmpfs",
    )


def _holds_overlay(directory: Path) -> bool:
    with tempfile.TemporaryDirectory(prefix=".overlay-", dir=directory) as name:
        for part in ("lower", "upper", "work", "root"):
            (Path(name) / part).mkdir()
        options = "lowerdir=lower,upperdir=upper,workdir=work"
        command = ["unshare", "--mount", "--propagation", "private", "mount", "-t", "overlay", "overlay", "-o", options]
        return subprocess.run([*command, "root"], cwd=name, capture_output=True).returncode == 0
