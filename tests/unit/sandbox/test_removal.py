"""A host's account may make directories deeper than Python may call itself, and may link to anything."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tasks.engine.errors import LoopError
from tasks.engine.sandbox.machine import Machine
from tasks.engine.sandbox.network import Network
from tasks.engine.sandbox.removal import remove_tree


def nest(folder: Path) -> None:
    """Make directories deeper than Python may call itself, and than a path may be long."""
    folder.mkdir()
    place = os.open(folder, os.O_RDONLY)
    for _ in range(sys.getrecursionlimit() + 200):
        os.mkdir("deep", dir_fd=place)
        inner = os.open("deep", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)


def test_a_host_with_deep_directories_is_removed(tmp_path: Path) -> None:
    nest(tmp_path / "disk")
    Machine("shire01", 120, tmp_path / "disk", tmp_path / "tree", Network(1)).remove()
    assert not [*tmp_path.iterdir()]


def test_no_links_target_is_removed_and_nothing_is_nothing_to_remove(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "-rf").mkdir()
    (tmp_path / "-rf/link").symlink_to(tmp_path / "kept")
    for _ in range(2):
        remove_tree(tmp_path / "-rf")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_what_stays_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rm").write_text("#!/bin/sh\necho rm: busy >&2\nexit 1\n")
    (tmp_path / "rm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(LoopError, match="disk could not be removed") as caught:
        remove_tree(tmp_path / "disk")
    assert (caught.value.where, caught.value.detail) == (str(tmp_path / "disk"), ("rm: busy",))
