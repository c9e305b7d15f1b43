"""The files of a part, written into a repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.engine.parts.addition import Addition, make
from tasks.engine.parts.catalogue import load
from tests.support.clone import ROOT


@pytest.fixture
def addition() -> Addition:
    made, changed = {"service/app/new.py": b"new\n" * 1000}, {"service/list": b"two\n" * 1000}
    return Addition(load(ROOT, "metrics"), (), made, changed, ())


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "service").mkdir()
    (tmp_path / "service/list").write_bytes(b"one\n")
    (tmp_path / "service/list").chmod(0o750)
    return tmp_path


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_files_are_new_or_replaced_and_keep_their_mode(repository: Path, addition: Addition) -> None:
    make(repository, addition)
    assert files(repository) == addition.made | addition.changed
    assert (repository / "service/list").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("number", [1, 2])
def test_a_file_is_written_whole_or_not_at_all(
    repository: Path, addition: Addition, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before, write, count = files(repository), Path.write_bytes, iter(range(1, 3))

    def cut(path: Path, data: bytes) -> int:
        if next(count) < number:
            return write(path, data)
        write(path, data[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", cut)
    with pytest.raises(KeyboardInterrupt):
        make(repository, addition)
    assert files(repository) == before | (addition.made if number == 2 else {})


def test_a_file_that_came_meanwhile_stays(repository: Path, addition: Addition) -> None:
    (repository / "service/app").mkdir()
    (repository / "service/app/new.py").write_bytes(b"mine\n")
    with pytest.raises(FileExistsError):
        make(repository, addition)
    assert (repository / "service/app/new.py").read_bytes() == b"mine\n"
    assert (repository / "service/list").read_bytes() == b"one\n"
