"""One holder at a time, never two, even if the file was replaced meanwhile."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from tasks.engine.sandbox.locks import locked


def test_who_waits_is_told_and_gets_it_next(tmp_path: Path) -> None:
    waiting = Event()
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path / "lock", waiting.set):
            order.append("second")

    with ThreadPoolExecutor() as pool:
        with locked(tmp_path / "lock"):
            other = pool.submit(second)
            assert waiting.wait(60)
            order.append("first")
        other.result(10)
    assert order == ["first", "second"]


def test_a_lock_whose_directory_was_removed_is_taken_anew(tmp_path: Path) -> None:
    path = tmp_path / "state" / "lock"
    waiting = Event()

    def second() -> bool:
        with locked(path, waiting.set):
            return path.exists()

    with ThreadPoolExecutor() as pool:
        with locked(path):
            other = pool.submit(second)
            assert waiting.wait(60)
            shutil.rmtree(path.parent)
        assert other.result(10)
