"""The id of a release depends on its content alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.engine.errors import UsageError
from tasks.engine.release import build
from tests.support import git_repository as repository
from tests.support.git_repository import commit, git

FILES = {
    "service.yaml": "name: demo\n",
    "requirements.txt": f"gunicorn==23.0.0 --hash=sha256:{'a' * 64}\n",
    "app.py": "x = 1\n",
    "run": "#!/bin/sh\n",
}


def checkout_at(root: Path, names: list[str], mask: int = 0o022) -> Path:
    """Make a checkout with these files, written in this order under this umask."""
    before = os.umask(mask)
    try:
        (root / "service").mkdir(parents=True)
        for name in names:
            (root / "service" / name).write_text(FILES[name])
        run = root / "service" / "run"
        run.chmod(0o777 & ~mask)
    finally:
        os.umask(before)
    return root


def test_same_content_same_id_on_any_path_umask_order_and_mapping_order(tmp_path: Path) -> None:
    first = checkout_at(tmp_path / "one", sorted(FILES))
    second = checkout_at(tmp_path / "elsewhere" / "two", sorted(FILES, reverse=True), mask=0o077)
    a = build.build(first, {"x": {"keep": 3, "env": {"A": "1"}}})
    b = build.build(second, {"x": {"env": {"A": "1"}, "keep": 3}})
    assert a.id == b.id
    assert len(a.id) == 12
    assert int(a.id, 16) >= 0


def test_any_change_of_content_changes_the_id(tmp_path: Path) -> None:
    root = checkout_at(tmp_path / "one", sorted(FILES))
    service = root / "service"
    ids = [build.build(root, {}).id, build.build(root, {"x": {"keep": 3}}).id]
    (service / "run").chmod(0o644)
    ids.append(build.build(root, {}).id)
    for name in ("app.py", "service.yaml", "requirements.txt"):
        (service / name).write_text((service / name).read_text() + "\n")
        ids.append(build.build(root, {}).id)
    (service / "app.py").rename(service / "main.py")
    ids.append(build.build(root, {}).id)
    assert len(set(ids)) == len(ids)


def test_commit_and_dirty_paths_are_told_and_do_not_change_the_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.create(tmp_path, monkeypatch)
    root = checkout_at(tmp_path, sorted(FILES))
    before = build.build(root, {})
    assert (before.commit, before.dirty) == (None, tuple(sorted(FILES)))
    with pytest.raises(UsageError, match=r"4 file\(s\).*--require-clean"):
        build.build(root, {}, require_clean=True)
    commit(root)
    after = build.build(root, {}, require_clean=True)
    assert (after.id, after.dirty) == (before.id, ())
    assert after.commit


@pytest.mark.parametrize("name", ["service.yaml", "requirements.txt"])
def test_a_needed_file_that_git_ignores_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    repository.create(tmp_path, monkeypatch)
    root = checkout_at(tmp_path, sorted(FILES))
    (root / ".gitignore").write_text(f"{name}\n")
    with pytest.raises(UsageError, match="needs this file, and git ignores it"):
        build.build(root, {})
    git(root, "add", "-f", f"service/{name}")
    assert build.build(root, {}).id


def test_no_gunicorn(tmp_path: Path) -> None:
    root = checkout_at(tmp_path / "one", sorted(FILES))
    (root / "service" / "requirements.txt").write_text(FILES["requirements.txt"].replace("gunicorn", "flask"))
    with pytest.raises(UsageError, match="no gunicorn, and it runs every web process"):
        build.build(root, {})


def test_a_password_of_an_index_goes_to_no_host(tmp_path: Path) -> None:
    root = checkout_at(tmp_path / "one", sorted(FILES))
    (root / "service" / "requirements.in").write_text("-r more.in\n")
    (root / "service" / "more.in").write_text("gunicorn\n--index-url https://me:${VARIABLE}@index.example/simple\n")
    assert build.build(root, {}).id
    (root / "service" / "more.in").write_text("gunicorn\n--index-url https://me:secret@index.example/simple\n")
    with pytest.raises(UsageError, match="holds a password") as caught:
        build.build(root, {})
    assert caught.value.where == "service/more.in:2:1"
