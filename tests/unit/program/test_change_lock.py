"""The task of a guard, and the process group of a run that may be ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from templates.host import activity, change_lock
from templates.host.change_lock import Until
from templates.host.folders import Folder


def test_what_a_guard_is_to_do_is_one_word_and_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_lock, "now", lambda: 1000.0)
    with Folder.open(str(tmp_path)) as folder:
        until = Until(folder)
        assert (until.text, until.time) == ("", 0)
        until.begin("", 30)
        assert (until.text, until.time) == ("103000", 1030.0)
        until.begin("drain")
        assert (until.text, until.time) == ("drain 100000", 0)
        until.write("")
        assert until.text == ""
        until.finish()
        assert until.text == "done"


@pytest.mark.parametrize(
    ("line", "group"),
    [
        ('{"group": 7}', 7),
        ('{"group": 0}', 0),
        ('{"group": "7"}', 0),
        ('{"group": -1}', 0),
        ("", 0),
        ("[]", 0),
        ("{", 0),
        ('{"group": true}', 0),
        ("[" * 100_000, 0),
    ],
    ids=lambda value: str(value)[:20],
)
def test_the_group_of_a_run_is_a_number_or_nothing(line: str, group: int) -> None:
    assert activity.group_of(line) == group
