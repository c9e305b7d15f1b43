"""The kernel's limit is raised for many hosts, and never lowered."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.engine.sandbox import limits


@pytest.mark.parametrize(("allowed", "hosts", "after", "told"), [(128, 30, 1088, True), (8192, 30, 8192, False)])
def test_there_is_room_for_every_host(tmp_path: Path, allowed: int, hosts: int, after: int, told: bool) -> None:
    file, said = tmp_path / "limit", list[str]()
    file.write_text(f"{allowed}\n")
    limits.raise_inotify_limit(hosts, said.append, file)
    assert int(file.read_text()) == after
    assert bool(said) is told
