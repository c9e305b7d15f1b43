"""`include` of service.yaml carries what git ignores and what is large, and never what a release refuses."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.engine.errors import UsageError
from tasks.engine.fleet import project
from tasks.engine.release import archive, file_rules, left_behind
from tasks.engine.sandbox.removal import remove_tree
from tests.support import git_repository as repository
from tests.support.clone import ROOT

HERE = "service/service.yaml:9:11 (include[0])"


@pytest.fixture
def deep(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with more levels than Python calls; git takes them."""
    made = root / "service/static/dist/t"
    made.mkdir()
    monkeypatch.chdir(made)
    for _ in range(1200):
        Path("d").mkdir()
        os.chdir("d")
    Path("f.css").write_text("x")
    os.chdir(root)
    yield made
    # pytest could not remove it.
    remove_tree(made)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that ignores what a build made."""
    repository.create(tmp_path, monkeypatch)
    (tmp_path / ".gitignore").write_text("dist/\n*.bin\n.env\n__pycache__\n")
    for path in (
        "app.py",
        "static/a.css",
        "static/dist/b.css",
        "static/dist/deep/c.js",
        "models/m.bin",
        "models/n.bin",
    ):
        write(tmp_path, path)
    repository.commit(tmp_path)
    return tmp_path


def write(root: Path, path: str, text: str = "x") -> Path:
    target = root / "service" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return target


def carried(root: Path, *patterns: str) -> set[str]:
    """Return the paths that a release has beside those of git."""
    return {entry.path for entry in archive.collect(root, dict.fromkeys(patterns, HERE)).entries} - {
        entry.path for entry in archive.collect(root).entries
    }


@pytest.mark.parametrize(
    ("patterns", "paths"),
    [
        ((), set()),
        (("app.py",), set()),
        (("static/dist",), {"static/dist/b.css", "static/dist/deep/c.js"}),
        (("static/dist/",), {"static/dist/b.css", "static/dist/deep/c.js"}),
        (("static/dist/**",), {"static/dist/b.css", "static/dist/deep/c.js"}),
        (("static/dist/*.css", "models/m.bin"), {"static/dist/b.css", "models/m.bin"}),
        (("**/*.bin",), {"models/m.bin", "models/n.bin"}),
        (("models/[n-z].bin",), {"models/n.bin"}),
        (("*",), {"static/dist/b.css", "static/dist/deep/c.js", "models/m.bin", "models/n.bin"}),
    ],
)
def test_paths_and_globs_are_carried(root: Path, patterns: tuple[str, ...], paths: set[str]) -> None:
    for path in ("static/dist/__pycache__/x.txt", "static/dist/.DS_Store", ".venv/x", "static/dist/.git/HEAD"):
        write(root, path)
    (root / ".git/info/exclude").write_text(".venv\n")
    assert carried(root, *patterns) == paths


@pytest.mark.parametrize("pattern", ["static/dits", "*.so", "service/app.py", "app.py/x", ".git", "static/cache"])
def test_a_pattern_that_matches_no_file_is_refused_with_its_line(root: Path, pattern: str) -> None:
    write(root, "static/cache/__pycache__/x.pyc")
    with pytest.raises(UsageError, match="no file below service/ matches") as caught:
        carried(root, pattern)
    assert caught.value.where == HERE
    assert caught.value.next


def test_a_large_file_is_carried_if_it_is_named(root: Path) -> None:
    large = write(root, "data.txt", "x" * (file_rules.LIMIT + 1))
    with pytest.raises(UsageError, match=r"10\.0 MB") as caught:
        archive.collect(root)
    assert "include" in (caught.value.next or "")
    (entry,) = (one for one in archive.collect(root, {"*.txt": HERE}).entries if one.path == "data.txt")
    assert entry.size == large.stat().st_size
    assert entry.read() == large.read_bytes()


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        ("static/dist/.env", "A=1", "environment files hold secrets"),
        ("static/dist/id_rsa", "", "private key"),
        ("static/dist/k.txt", "-----BEGIN PRIVATE KEY-----\n", "private key"),
        ("static/dist/m.bin", "version https://git-lfs.github.com/spec/v1\noid x\n", "Git LFS"),
    ],
)
def test_what_is_refused_is_refused_there_too(root: Path, path: str, text: str, reason: str) -> None:
    write(root, path, text)
    with pytest.raises(UsageError, match=reason) as caught:
        carried(root, "static/dist")
    assert caught.value.where == f"service/{path}"
    assert ".gitignore" not in (caught.value.next or "")


@pytest.mark.usefixtures("deep")
def test_a_deep_tree_is_refused_by_name(root: Path) -> None:
    (left,) = (one for one in left_behind.find(root, archive.Tree(())) if one.path == "static/dist/")
    assert left.files == 2
    for pattern, reason in (("static/dist", "more than 100 directories"), ("**/*.css", "too deep")):
        with pytest.raises(UsageError, match=reason):
            carried(root, pattern)
    shutil.rmtree(root / ".git")
    with pytest.raises(UsageError, match="more than 100 directories"):
        archive.collect(root)


def test_links_are_not_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x.txt").write_text("secret")
    (root / "service/static/dist/link").symlink_to(tmp_path / "outside")
    for pattern in ("static/dist", "static/dist/link", "static/dist/link/x.txt", "static/dist/link/*"):
        with pytest.raises(UsageError, match="is a symbolic link"):
            carried(root, pattern)


def checkout(root: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> int:
    """Make a project whose service.yaml ends with this line; return the line's number."""
    repository.create(root, monkeypatch)
    for name in ("service.yaml", "requirements.in", "requirements.txt"):
        write(root, name, (ROOT / "service" / name).read_text())
    (root / "hosts.yaml").write_text("hosts: {}\n")
    (root / ".gitignore").write_text("dist\n")
    with (root / "service/service.yaml").open("a") as file:
        file.write(line)
    return len((root / "service/service.yaml").read_text().splitlines())


def test_a_folder_of_pythonpath_has_files_that_the_release_carries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = checkout(tmp_path, monkeypatch, "pythonpath: [., dist/src/]\n")
    write(tmp_path, "dist/src/shop.py")
    with pytest.raises(UsageError, match="no file below dist/src/") as caught:
        project.load(tmp_path, {}).release()
    assert (caught.value.where or "").endswith(f"service.yaml:{line}:17 (pythonpath[1])")
    (tmp_path / ".gitignore").unlink()
    assert project.load(tmp_path, {}).release().id


@pytest.mark.parametrize("of_host", [False, True])
def test_a_directory_of_static_files_has_files_that_the_release_carries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_host: bool
) -> None:
    checkout(tmp_path, monkeypatch, "")
    key = "nginx: {server_name: a.example, static: {/static/: dist/site}}"
    if of_host:
        (tmp_path / "hosts.yaml").write_text(f"hosts:\n  one:\n    service: {{{key}}}\n")
    else:
        write(tmp_path, "service.yaml", f'name: myapp\napp: "app:create_app()"\n{key}\n')
    write(tmp_path, "dist/site/a.css")
    with pytest.raises(UsageError, match="no file below dist/site/") as caught:
        project.load(tmp_path, {}).release()
    place = "hosts.yaml:3:" if of_host else "service.yaml:3:"
    assert place in (caught.value.where or "")
    assert "nginx.static./static/)" in (caught.value.where or "")
    (tmp_path / ".gitignore").unlink()
    assert project.load(tmp_path, {}).release().id


def test_the_release_of_a_project_has_them_and_the_place_is_that_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = checkout(tmp_path, monkeypatch, "include: [static/dist]\n")
    with pytest.raises(UsageError, match="static/dist") as caught:
        project.load(tmp_path, {}).release()
    assert (caught.value.where or "").endswith(f"service.yaml:{line}:11 (include[0])")
    write(tmp_path, "static/dist/a.css", "one")
    first = project.load(tmp_path, {}).release()
    assert "static/dist/a.css" in {entry.path for entry in first.tree.entries}
    write(tmp_path, "static/dist/a.css", "two")
    assert project.load(tmp_path, {}).release().id != first.id


def test_a_file_that_no_host_would_read_whole_is_refused_unread(root: Path) -> None:
    with (root / "service/models/m.bin").open("wb") as file:
        file.truncate(2 << 40)
    with pytest.raises(UsageError) as caught:
        carried(root, "models/m.bin")
    assert "more than 8 GiB" in str(caught.value)
