"""git's list of service/, in a real repository, and the files taken without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.engine.errors import UsageError
from tasks.engine.release import archive, git
from tests.support import git_repository as repository
from tests.support.git_repository import commit
from tests.support.git_repository import git as run_git


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the clone of the template in a folder below its top."""
    repository.create(tmp_path, monkeypatch)
    write(tmp_path, "clone/service/a.py", "clone/service/b.py", "clone/service/gone.py", "clone/hosts.yaml")
    (tmp_path / "clone" / ".gitignore").write_text("ignored\n")
    return tmp_path / "clone"


def test_tracked_and_untracked_but_not_ignored_nor_deleted(root: Path) -> None:
    commit(root)
    write(root, "service/new é.py", "service/ignored")
    (root / "service" / "gone.py").unlink()
    assert git.read(root).files == [b"a.py", b"b.py", "new é.py".encode()]


def test_dirty_names_what_differs_from_the_commit(root: Path) -> None:
    assert git.read(root).commit is None
    assert git.read(root).dirty == ("a.py", "b.py", "gone.py")
    commit(root)
    assert git.read(root).dirty == ()
    assert len(git.read(root).commit or "") == 40
    (root / "service" / "b.py").rename(root / "service" / "moved é.py")
    write(root, "other.py", "service/staged.py")
    run_git(root, "add", "service/staged.py")
    (root / "service" / "gone.py").unlink()
    assert git.read(root).dirty == ("b.py", "gone.py", "moved é.py", "staged.py")


def test_outside_of_git_caches_and_venvs_stay_behind(tmp_path: Path) -> None:
    write(tmp_path, "service/a.py", "service/p/b.py", "service/p/__pycache__/b.pyc", "service/.venv/x", "service/c.pyc")
    write(tmp_path, "service/.hidden")
    assert git.read(tmp_path).files == [b".hidden", b"a.py", b"p/b.py"]
    assert (git.read(tmp_path).commit, git.read(tmp_path).dirty) == (None, ())


def test_a_repository_inside_is_refused(root: Path) -> None:
    write(root, "service/inner/x.py")
    run_git(root / "service" / "inner", "init", "-q")
    with pytest.raises(UsageError, match="git repository of its own"):
        archive.collect(root)


def test_a_git_that_fails_is_never_taken_for_no_git(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root.parent / ".git" / "HEAD").write_text("nonsense")
    with pytest.raises(UsageError, match="git cannot read") as caught:
        git.read(root)
    assert caught.value.detail
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UsageError, match="there is no git"):
        git.read(root)


def test_called_from_a_hook_of_another_repository(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(root)
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_INDEX_FILE", "index")
    assert git.read(root).files == [b"a.py", b"b.py", b"gone.py"]
    assert git.read(root).commit


def test_no_service_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no service/"):
        git.read(tmp_path)
