"""Plain data of a backup or a restore that was killed does not stay."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from tasks.engine.backup import unfinished

LEFT = (
    ".4711-myapp-20260101T000000Z.tar.gz",
    ".myapp-20260101T000000Z.tar.gz.part",
    ".myapp-20260101T000000Z.tar.gz.age",
)


@pytest.mark.parametrize("name", LEFT)
def test_what_a_killed_process_has_left_goes_and_what_one_at_work_has_stays(name: str, tmp_path: Path) -> None:
    """Once: it stayed for ever, in plain, beside encrypted archives."""
    others = (tmp_path / "myapp-20260101T000000Z.tar.gz", tmp_path / ".notes", tmp_path / ".x.tar.gz")
    others[0].touch()
    others[1].touch()
    others[2].symlink_to(others[0])
    with unfinished.create(tmp_path / name) as file:
        file.write(b"plain")
        unfinished.tidy(tmp_path)
        assert (tmp_path / name).exists()
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    unfinished.tidy(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_a_folder_that_is_not_there_has_nothing_left(tmp_path: Path) -> None:
    unfinished.tidy(tmp_path / "none")


def test_the_name_of_another_process_of_ours_is_not_taken(tmp_path: Path) -> None:
    with unfinished.create(tmp_path / LEFT[0]), pytest.raises(FileExistsError):
        unfinished.create(tmp_path / LEFT[0])


NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize("there", ["x-20260101T120000Z.tar.gz", "x-20260101T120000Z.tar.gz.age"])
def test_an_archive_of_the_same_second_is_not_replaced(there: str, tmp_path: Path) -> None:
    """Once: a restore saved what was there over the archive that it was to put back, if both began in one second."""
    (tmp_path / there).write_text("kept")
    file, target, moment = unfinished.begin(tmp_path, "x", NOON, ("", ".age"))
    with file:
        # Another one that is at work has its name, too.
        other, following, _ = unfinished.begin(tmp_path, "x", NOON, ("", ".age"))
        other.close()
    assert (target.name, moment.second) == ("x-20260101T120001Z.tar.gz", 1)
    assert following.name == "x-20260101T120002Z.tar.gz"
    names = {unfinished.part_of(target).name, unfinished.part_of(following).name, there}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert (tmp_path / there).read_text() == "kept"
