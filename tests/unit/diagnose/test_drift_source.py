"""The former content of an edited file, from git: a host chooses the commit and the path."""

from __future__ import annotations

import subprocess
import tracemalloc
from pathlib import Path

import pytest

from tasks import drift


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_large_file_of_the_history_is_not_read_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: a host that named the largest file of the repository took its size in memory, a hundred times."""
    (tmp_path / "service").mkdir()
    (tmp_path / "service/app.py").write_text("x = 1\n")
    (tmp_path / "service/large").write_bytes(bytes(32 << 20))
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "x")
    commit = git(tmp_path, "rev-parse", "HEAD")
    monkeypatch.setattr(drift, "ROOT", tmp_path)
    tracemalloc.start()
    try:
        found = [drift._of_git(commit, name) for name in ("app.py", "large", "none")]
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert found == [b"x = 1\n", None, None]
