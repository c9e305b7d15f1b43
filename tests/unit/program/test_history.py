"""The history on a host: whole lines, and a file that stays small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from templates.host import history
from templates.host.folders import Folder
from templates.host.locks import Lock
from templates.host.run import Run
from tests.support.program_run import run

__all__ = ["run"]

ID = "b" * 12


def lines(folder: Path) -> list[dict[str, str]]:
    text = (folder / history.FILE).read_text()
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def test_a_line_of_the_history_is_whole_and_plain(run: Run, tmp_path: Path) -> None:
    (tmp_path / history.FILE).write_text('{"torn')
    with Folder.open(str(tmp_path)) as root:
        history.record(run, root, "deploy", ID, "failed", 'it said "no"\n\x1b[31m' + "x" * 400)
        assert json.loads(history.last(root))["run"] == run.id
    (line,) = lines(tmp_path)[-1:]
    assert (line["action"], line["release"], line["state"]) == ("deploy", ID, "failed")
    assert line["why"].startswith("it said  no    31mxxx")
    assert len(line["why"]) == 300
    assert (tmp_path / history.FILE).read_text().startswith('{"torn\n{"time"')


def test_a_history_that_grows_keeps_its_end_and_the_switches_before(run: Run, tmp_path: Path) -> None:
    switch = '{"action":"deploy","release":"%012x","state":"done"}\n'
    other = '{"action":"stop","release":"%012x","state":"done"}\n'
    (tmp_path / history.FILE).write_text("".join((switch if n % 100 == 0 else other) % n for n in range(25_000)))
    with Folder.open(str(tmp_path)) as root:
        history.record(run, root, "deploy", ID, "started")
        assert (tmp_path / history.FILE).stat().st_size > 1_000_000
        history.record(run, root, "deploy", ID, "done")
    kept = lines(tmp_path)
    assert (tmp_path / history.FILE).stat().st_size < 650_000
    assert (kept[0]["action"], kept[0]["release"]) == ("deploy", "0" * 12)
    assert [line["state"] for line in kept[-2:]] == ["started", "done"]
    assert sum(line["action"] == "deploy" for line in kept) == 250 + 2


def test_whoever_holds_the_lock_of_the_history_does_not_keep_it_from_being_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lock, "take_within", lambda *_, **__: False)
    with Folder.open(str(tmp_path)) as root:
        history.record(run, root, "stop", ID, "done")
    assert len(lines(tmp_path)) == 1
