"""What git ignores and a release lacks is named by its topmost directory, but not what every project ignores."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.engine.release import archive, left_behind
from tasks.engine.release.left_behind import Left
from tests.support import git_repository as repository

USUAL = (
    "__pycache__/x.pyc", ".venv/lib/x.py", "node_modules/a/x.js", ".pytest_cache/x", "my.egg-info/PKG-INFO",
    "wheels/own-1.0-py3-none-any.whl",
    "deep/__pycache__/x.pyc", "deep/node_modules/x.js", ".env", "id_rsa", ".DS_Store", "app.py~", ".coverage",
)  # fmt: skip


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    repository.create(tmp_path, monkeypatch)
    write(tmp_path, "app.py", 1)
    repository.commit(tmp_path)
    (tmp_path / ".gitignore").write_text("*\n")
    return tmp_path


def write(root: Path, path: str, size: int) -> None:
    target = root / "service" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"x" * size)


def left(root: Path, *patterns: str) -> list[tuple[str, int]]:
    """Return the paths and sizes that stay behind with this `include`."""
    tree = archive.collect(root, dict.fromkeys(patterns, "here"))
    return [(one.path, one.size) for one in left_behind.find(root, tree)]


def test_the_topmost_directories_and_files_are_named_the_largest_first(root: Path) -> None:
    for path, size in (("static/dist/a.css", 10), ("static/dist/deep/b.css", 20), ("data/x.db", 500), ("out.log", 7)):
        write(root, path, size)
    repository.git(root, "add", "-f", "service/static/dist/a.css")
    assert left(root) == [("data/", 500), ("static/dist/deep/", 20), ("out.log", 7)]


def test_the_usual_and_what_no_release_may_have_is_not_named(root: Path) -> None:
    for path in USUAL:
        write(root, path, 100)
    assert left(root) == []
    write(root, "deep/real.txt", 3)
    assert left(root) == [("deep/", 3)]


def test_what_include_carries_does_not_stay_behind(root: Path) -> None:
    write(root, "models/a.bin", 10)
    write(root, "models/b.bin", 20)
    assert left(root, "models/b.bin") == [("models/", 10)]
    assert left(root, "models") == []


def test_links_are_not_followed(root: Path) -> None:
    (root / "outside").mkdir()
    (root / "outside/x").write_text("x" * 1000)
    write(root, "data/x", 1)
    (root / "service/data/link").symlink_to(root / "outside")
    ((_, size),) = left(root)
    assert size < 1000


def test_outside_of_git_nothing_is_ignored(tmp_path: Path) -> None:
    write(tmp_path, "app.py", 1)
    write(tmp_path, "dist/x", 1)
    assert left(tmp_path) == []


def test_the_sentence_has_five_and_the_number_of_the_others() -> None:
    assert left_behind.sentence([]) == ""
    some = [Left("data/", 3_200_000_000, left_behind._COUNTED), Left("dist/", 1_240_000, 3), Left("x.log", 999, 1)]
    told = left_behind.sentence(some)
    assert "data/ (over 3.2 GB), dist/ (1.2 MB), x.log (999 bytes); `include`" in told
    many = left_behind.sentence([Left(f"d{number}/", 2000, 1) for number in range(8)])
    assert "d4/ (2.0 kB) and 3 more;" in many
    assert "d5/" not in many
