"""Directories of `shared`: on a host they are the service's data, so a release has no file there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.engine.errors import UsageError
from tasks.engine.fleet import project
from tasks.engine.release import archive, left_behind
from tests.support import git_repository as repository
from tests.support.clone import ROOT

SHARED = ("app/uploads", "media")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    repository.create(tmp_path, monkeypatch)
    write(tmp_path, "app/__init__.py")
    repository.commit(tmp_path)
    return tmp_path


def write(root: Path, path: str, text: str = "x") -> None:
    target = root / "service" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


@pytest.mark.parametrize("path", ["media/one.png", "media", "app/uploads/deep/x", ".gitkeep/media/x"])
def test_a_file_there_is_refused_by_name_whether_git_has_it_or_would_have_it(root: Path, path: str) -> None:
    write(root, path)
    if path.startswith("."):
        assert {entry.path for entry in archive.collect(root, {}, SHARED).entries} == {"app/__init__.py", path}
        return
    for committed in (False, True):
        if committed:
            repository.commit(root)
        with pytest.raises(UsageError, match="is `shared`") as caught:
            archive.collect(root, {}, SHARED)
        assert caught.value.where == f"service/{path}"
        assert "git rm -r --cached service/" in (caught.value.next or "")


def test_a_file_above_a_shared_directory_is_refused(root: Path) -> None:
    write(root, "data")
    with pytest.raises(UsageError, match="data/uploads is `shared`") as caught:
        archive.collect(root, {}, ("data/uploads",))
    assert (caught.value.next or "").startswith("rename the file")


def test_include_carries_nothing_from_there(root: Path) -> None:
    write(root, "media/one.png")
    (root / ".gitignore").write_text("media\n")
    assert archive.collect(root, {}, SHARED).shared == SHARED
    for pattern in ("media", "**/*.png", "media/one.png"):
        with pytest.raises(UsageError, match="is `shared`") as caught:
            archive.collect(root, {pattern: "here"}, SHARED)
        assert "`include`" in (caught.value.next or "")


def test_a_file_that_only_keeps_the_directory_in_git_stays_out_of_the_release(root: Path) -> None:
    for path in ("media/.gitkeep", "app/uploads/.gitignore", "app/.gitkeep"):
        write(root, path)
    repository.commit(root)
    entries = {entry.path for entry in archive.collect(root, {}, SHARED).entries}
    assert entries == {"app/__init__.py", "app/.gitkeep"}


def test_what_lies_there_on_this_machine_is_not_called_left_behind(root: Path) -> None:
    for path in ("media/one.png", "app/uploads/x", "data/x.db"):
        write(root, path)
    (root / ".gitignore").write_text("media\nuploads\ndata\n")
    tree = archive.collect(root, {}, SHARED)
    assert [one.path for one in left_behind.find(root, tree)] == ["data/"]


def test_the_release_of_a_project_takes_them_from_service_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.create(tmp_path, monkeypatch)
    for name in ("service.yaml", "requirements.in", "requirements.txt"):
        write(tmp_path, name, (ROOT / "service" / name).read_text())
    (tmp_path / "hosts.yaml").write_text("hosts: {}\n")
    with (tmp_path / "service/service.yaml").open("a") as file:
        file.write("shared: [media]\n")
    assert project.load(tmp_path, {}).release().tree.shared == ("media",)
    write(tmp_path, "media/one.png")
    with pytest.raises(UsageError, match="media is `shared`"):
        project.load(tmp_path, {}).release()
