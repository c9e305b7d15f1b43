"""Open directories of the host's program: they follow no name, and read only regular files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
