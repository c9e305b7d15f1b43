"""The processes that the health gate and the guard watch."""

from __future__ import annotations

from pathlib import Path

import pytest

from templates.host import gate, units
from templates.host.gate import WebProcesses


def processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, recycles: bool = False) -> WebProcesses:
    (tmp_path / "101/task/101").mkdir(parents=True)
    (tmp_path / "101/task/101/children").write_text("201 202 ")
    shown = {"MainPID": "101", "NRestarts": "0", "ActiveState": "active", "Result": "success"}
    monkeypatch.setattr(gate, "PROC", str(tmp_path))
    monkeypatch.setattr(units, "show", lambda *_: shown)
    made = WebProcesses("myapp@blue.service", recycles=recycles)
    assert made.ask_systemd()
    assert made.all_there()
    return made


@pytest.mark.parametrize(
    ("children", "recycles", "same"),
    [("201 202 203", False, True), ("201 203", False, False), ("201 203", True, True), ("", True, True)],
)
def test_a_worker_that_is_gone_is_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, children: str, recycles: bool, same: bool
) -> None:
    seen = processes(monkeypatch, tmp_path, recycles=recycles)
    (tmp_path / "101/task/101/children").write_text(children)
    seen.update()
    assert (seen.all_there(), seen.same_main) == (same, True)


def test_another_main_process_is_seen_however_workers_come_and_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = processes(monkeypatch, tmp_path, recycles=True)
    monkeypatch.setattr(units, "show", lambda *_: {"MainPID": "102", "NRestarts": "1", "ActiveState": "active"})
    assert seen.ask_systemd()
    assert not seen.same_main
    assert not seen.all_there()
