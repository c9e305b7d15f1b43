"""A real git repository for tests, isolated from this machine's configuration."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


def create(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `top` a repository."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example")
    git(top, "init", "-q")


def git(folder: Path, *arguments: str) -> None:
    """Run git there; it must succeed."""
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder: Path) -> None:
    """Commit every file."""
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")
