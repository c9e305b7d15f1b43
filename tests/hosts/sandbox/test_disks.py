"""Disks are beside the state if an overlay is writable there; otherwise elsewhere, with a message."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tasks.engine.sandbox import disks

FIND_ON_AN_OVERLAY = """
import sys
from pathlib import Path
from tasks.engine.sandbox import disks
print("found", disks.choose_directory(Path("root/state"), Path(sys.argv[1]), print))
"""


@pytest.mark.usefixtures("sandbox")
def test_disks_lie_in_the_state_directory(tmp_path: Path) -> None:
    said: list[str] = []
    assert disks.choose_directory(tmp_path / "state", tmp_path / "cache", said.append) == tmp_path / "state" / "disks"
    assert said == []


@pytest.mark.usefixtures("sandbox")
def test_a_state_directory_on_an_overlay_sends_disks_to_the_cache(tmp_path: Path) -> None:
    for part in ("lower", "upper", "work", "root"):
        (tmp_path / part).mkdir()
    mount = "mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work root"
    find = [sys.executable, "-c", FIND_ON_AN_OVERLAY, str(tmp_path / "cache")]
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{mount} && exec "$@"', "sh", *find],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(disks.__file__).parents[3]), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
    )
    assert "cannot hold a writable overlay" in done.stdout, done.stderr
    assert f"found {tmp_path / 'cache'}/integrators-loop-disks-" in done.stdout
