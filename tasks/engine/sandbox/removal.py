"""Remove directory trees, however deep: `shutil.rmtree` calls itself for each level, and Python limits such calls."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tasks.engine.errors import LoopError


def remove_tree(path: Path) -> None:
    """Remove everything at a path, if there is anything, but no link's target; LoopError if something stays."""
    command = ["rm", "-rf", "--", str(path)]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if ended.returncode:
        raise LoopError(
            f"{path} could not be removed",
            where=str(path),
            next="see which program uses it: findmnt, fuser; then run the same command again",
            detail=tuple(ended.stderr.splitlines()[-5:]),
        )
