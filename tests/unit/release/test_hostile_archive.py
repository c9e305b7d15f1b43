"""Files of any name in service/: a release holds plain files, byte for byte, or there is none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tasks.engine.release import archive
from tests.promises.words import PLAIN
from tests.support import git_repository as repository
from tests.support.nasty_texts import ANY, TEXTS
from tests.support.tarballs import packed, project, unpacked

NAMES = sorted({text.encode("utf-8", "surrogateescape" if text == "\udc80" else "surrogatepass") for text in TEXTS})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return project(tmp_path)


def make_file(root: Path, name: bytes, content: bytes = b"content") -> bool:
    """Make a file of this name in service/; return true if the file system allows the name."""
    parts = name.split(b"/")
    if b"\0" in name or not all(0 < len(part) < 256 and part not in (b".", b"..") for part in parts):
        return False
    path = os.path.join(os.fsencode(root), b"service", name)  # noqa: PTH118 - a name that may be no text
    if len(path) > 1000:
        return False
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(content)
    return True


@pytest.mark.promise(PLAIN, "a file with a nasty name")
@pytest.mark.parametrize("git", [False, True], ids=["no git", "git"])
def test_a_nasty_name_arrives_as_it_is_or_is_refused(
    root: Path, tmp_path: Path, git: bool, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    if git:
        repository.create(root, monkeypatch)
    # git starts four times for each: a short run asks it about every third.
    step = 3 if git and pytestconfig.option.promises == "part" else 1
    taken = 0
    for number, name in enumerate(NAMES[::step]):
        content = b"%d" % number
        if not make_file(root, name, content):
            continue
        found = packed(root)
        if isinstance(found, bytes):
            assert unpacked(found, tmp_path / "out")[name] == content
            taken += 1
        first = name.split(b"/")[0]
        path = os.path.join(os.fsencode(root), b"service", first)  # noqa: PTH118
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)  # noqa: PTH108, PTH112
    assert taken > 100 // step


@pytest.mark.promise(PLAIN, "a file with a nasty name")
@given(name=ANY)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much])
def test_any_name_arrives_as_it_is_or_is_refused(root: Path, tmp_path: Path, name: str) -> None:
    shutil.rmtree(root / "service", ignore_errors=True)
    raw = name.encode("utf-8", "surrogatepass")
    assume(make_file(root, raw))
    found = packed(root)
    if isinstance(found, bytes):
        assert unpacked(found, tmp_path / "out") == {os.path.normpath(raw): b"content"}


@pytest.mark.promise(PLAIN, "a manifest that was damaged")
@given(text=st.one_of(ANY, st.lists(st.tuples(ANY, ANY)).map(lambda lines: "".join(f"{a}  {b}\n" for a, b in lines))))
def test_a_manifest_is_read_whole_or_not_at_all(text: str) -> None:
    try:
        found = archive.parse_manifest(text)
    except ValueError:
        return
    assert "".join(f"{digest}  {path}\n" for path, digest in found.items()).strip("\n") == text.strip("\n")
