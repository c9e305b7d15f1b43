"""Open directories of the host's program: they follow no name, and read only regular files."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from templates.host import exchange as exchanging
from templates.host import folders, kept, venv
from templates.host.exchange import exchange
from templates.host.folders import Folder
from templates.host.release import digest_of


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder.open(str(tmp_path))


def test_a_regular_file_is_read_and_no_further_than_the_limit(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert folder.read("file", 3) == b"123"
    assert digest_of(folder, "file") == "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5"


def test_whatever_is_no_regular_file_is_refused_at_once(folder: Folder, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "link", "folder"):
        with pytest.raises(OSError, match=r"regular|symbolic|Is a directory"):
            folder.read(name, 10)


def test_a_directory_that_no_release_can_have_is_not_listed(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: a hand-over listed ten million names, links to one file of the former account, in root's memory."""
    monkeypatch.setattr(folders, "MOST", 2)
    for name in ("b", "a"):
        (tmp_path / name).touch()
    assert folder.names() == ["a", "b"] == folder.names()
    (tmp_path / "c").touch()
    for listing in (folder.names, lambda: list(folder.walk())):
        with pytest.raises(OSError, match="it has more than 2 entries") as raised:
            listing()
        assert raised.value.filename == str(tmp_path)


def test_no_more_of_a_venv_is_listed_and_no_more_of_a_kept_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(venv, "MOST", 1)
    monkeypatch.setattr(kept, "_MODULES", 1)
    for name in ("lib/a", "lib/b", "host/a.py", "host/b.py", "host/c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(OSError, match="it has more than 1 files"):
        venv._below(str(tmp_path / "lib"), "")
    assert len(kept._names(str(tmp_path / "host"))) == 3
    (tmp_path / "host/d.py").touch()
    assert len(kept._names(str(tmp_path / "host"))) == 3


def test_no_link_leads_into_another_directory(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "link").symlink_to("inner")
    with folder.below("inner"):
        pass
    with pytest.raises(OSError, match="directory"):
        folder.below("link")
    with pytest.raises(OSError, match="directory"):
        Folder.open(str(tmp_path / "link"))


def test_a_new_file_replaces_a_link_and_not_what_it_leads_to(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep")
    (tmp_path / "file").symlink_to("precious")
    (tmp_path / "part").symlink_to("precious")
    folder.replace("file", b"new", 0o640, "part")
    assert (tmp_path / "precious").read_text() == "keep"
    assert (tmp_path / "file").read_text() == "new"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert not (tmp_path / "part").is_symlink()


def test_a_name_that_is_taken_is_not_written_through(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep")
    (tmp_path / "file").symlink_to("precious")
    with pytest.raises(FileExistsError):
        folder.write("file", b"new", 0o644)
    assert (tmp_path / "precious").read_text() == "keep"


def test_a_directory_is_made_once_and_never_found_behind_a_link(folder: Folder, tmp_path: Path) -> None:
    folder.make("new", 0o750)
    folder.make("new", 0o750)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o750
    (tmp_path / "link").symlink_to("new")
    with pytest.raises(OSError, match="directory"):
        folder.make("link", 0o750)


def test_a_walk_finds_links_and_does_not_follow_them(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_text("")
    (tmp_path / "a/link").symlink_to("/etc")
    assert [path for _, _, path in folder.walk()] == ["a/b/file", "a/link"]


@pytest.mark.parametrize("at_once", [True, False], ids=["renameat2", "without it"])
def test_two_directories_change_places(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not at_once:
        monkeypatch.setattr(exchanging, "_at_once", lambda *_: False)
    exchange(folder, "new", "old")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*/*")) == ["new/old", "old/new"]


def test_an_exchange_that_fails_leaves_both_where_they_were(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old").mkdir()
    with pytest.raises(FileNotFoundError, match="new"):
        exchange(folder, "new", "old")
    monkeypatch.setattr(exchanging, "_at_once", lambda *_: False)
    with pytest.raises(FileNotFoundError, match="new"):
        exchange(folder, "new", "old")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_neither_name_is_missing_at_any_moment(folder: Folder, tmp_path: Path) -> None:
    """Once: a power cut between two renames left the release that serves without its directory."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    missing: list[str] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            missing.extend(name for name in ("old", "new") if not (tmp_path / name).exists())

    looking = threading.Thread(target=look)
    looking.start()
    for _ in range(2000):
        exchange(folder, "new", "old")
    done.set()
    looking.join()
    assert missing == []
