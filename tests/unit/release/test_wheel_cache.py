"""The cache answers only for the wheel requested, and only with the bytes that were kept."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.engine.release import wheel_cache
from tasks.engine.release.lockfile import LockedRequirement
from tasks.engine.release.python_target import Target
from tasks.engine.release.wheel_cache import Wheel

TARGET = Target("3.11.2", "cp311", "x86_64", ("glibc", 2, 36))
ONE = LockedRequirement("one", "1.0", None, ("a" * 64, "b" * 64))


def keep(root: Path, content: bytes = b"wheel") -> Wheel:
    with wheel_cache.scratch(root) as name:
        file = Path(name) / "one-1.0-py3-none-any.whl"
        file.write_bytes(content)
        return wheel_cache.keep(root, ONE, TARGET, file)


def test_what_is_kept_is_taken(tmp_path: Path) -> None:
    assert wheel_cache.take(tmp_path, ONE, TARGET) is None
    kept = keep(tmp_path)
    assert wheel_cache.take(tmp_path, ONE, TARGET) == kept
    assert (kept.size, kept.path.read_bytes(), kept.sha256) == (5, b"wheel", wheel_cache.digest(kept.path))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([kept.sha256, "index"])


@pytest.mark.parametrize(
    ("requirement", "target"),
    [
        (dataclasses.replace(ONE, version="1.1"), TARGET),
        (dataclasses.replace(ONE, hashes=("a" * 64,)), TARGET),
        (ONE, dataclasses.replace(TARGET, abi="cp311d")),
        (ONE, dataclasses.replace(TARGET, libc=("glibc", 2, 31))),
        (ONE, dataclasses.replace(TARGET, machine="aarch64")),
    ],
)
def test_another_question_has_another_answer(tmp_path: Path, requirement: LockedRequirement, target: Target) -> None:
    keep(tmp_path)
    assert wheel_cache.take(tmp_path, requirement, target) is None
    assert wheel_cache.take(tmp_path, ONE, dataclasses.replace(TARGET, python="3.11.9"))


@pytest.mark.parametrize("damage", [b"", b"wheeL", b"wheel\n"])
def test_damaged_bytes_are_no_answer(tmp_path: Path, damage: bytes) -> None:
    kept = keep(tmp_path)
    kept.path.write_bytes(damage)
    assert wheel_cache.take(tmp_path, ONE, TARGET) is None
    kept.path.unlink()
    assert wheel_cache.take(tmp_path, ONE, TARGET) is None


@pytest.mark.parametrize("damage", ["", "[]", "7", '["one", 7]', '["one-1.0-py3-none-any.whl", "/"]', "\0"])
def test_a_damaged_index_is_no_answer(tmp_path: Path, damage: str) -> None:
    keep(tmp_path)
    for entry in (tmp_path / "index").iterdir():
        entry.write_text(damage)
    assert wheel_cache.take(tmp_path, ONE, TARGET) is None


def test_many_writers_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(lambda _: keep(tmp_path), range(40)))
    assert set(kept) == {wheel_cache.take(tmp_path, ONE, TARGET)}


@pytest.mark.parametrize(
    ("given", "below"), [("/var/cache/x", "/var/cache/x"), ("", "~/.cache"), ("relative", "~/.cache")]
)
def test_default_root_follows_xdg(monkeypatch: pytest.MonkeyPatch, given: str, below: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert wheel_cache.default_root() == Path(below).expanduser() / "integrators-loop" / "wheels"
