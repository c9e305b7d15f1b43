"""The processes that the health gate and the guard watch."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from templates.host import gate, memory, units
from templates.host.gate import Gate, WebProcesses
from templates.host.run import Run


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


@pytest.mark.parametrize(
    ("logged", "why", "killed"),
    [
        ("[7] [ERROR] Worker (pid:9) exited with code 1.", "a worker died: it exited with code 1", []),
        ("[7] [ERROR] Worker (pid:9) was sent SIGKILL! Perhaps out of memory?", "a worker died", ["deploy 40a5"]),
    ],
)
def test_the_release_that_serves_is_suspected_only_if_the_worker_did_not_exit_by_itself(
    monkeypatch: pytest.MonkeyPatch, logged: str, why: str, killed: list[str]
) -> None:
    """Once: of each release whose worker ended with SystemExit, the release that serves was said to have ended it."""
    reported = []
    step = {"stop_first": False, "action": "deploy", "release": "40a5"}
    run = Run(("n", "r", "{}", ""), step, io.BytesIO())
    monkeypatch.setattr(run, "report", lambda *words: reported.append(words))
    monkeypatch.setattr(run, "pause", lambda _: None)
    monkeypatch.setattr(units, "journal_lines", lambda *_: [("journal", logged)])
    monkeypatch.setattr(memory, "fault", lambda *_, **__: "")
    processes = SimpleNamespace(result="success", ask_systemd=lambda: True)
    monkeypatch.setattr(gate, "web_processes", lambda *_, **__: processes)
    probe: Any = SimpleNamespace(service=SimpleNamespace(slot="myapp@{}.service".format))
    assert str(Gate(run, probe, "blue", former=True).failure("a worker died")) == why
    assert [text for _, text in reported] == killed
