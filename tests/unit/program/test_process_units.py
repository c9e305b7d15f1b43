"""A process beside `web` counts as up once it has been so for long enough, however busy systemd is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from templates.host import memory, units
from templates.host.process_units import ProcessUnits
from templates.host.run import Failed, Run, now
from templates.host.service import Front, Health, Process, Service
from tests.support.program_run import run

__all__ = ["run"]

ENDED = {"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "4"}


def active(ago: float) -> Mapping[str, str]:
    """Return what systemd shows of a unit that became active so many seconds ago."""
    return {"ActiveState": "active", "ActiveEnterTimestampMonotonic": str(int((time.monotonic() - ago) * 1e6))}


@pytest.mark.parametrize(("ago", "looks"), [(0, 2), (5, 1)])
def test_one_that_systemd_starts_late_must_stay_up_all_the_same(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ago: float, looks: int
) -> None:
    """Once: on a busy host one that ended at once was seen in its first moment, a second after systemd was told."""
    (tmp_path / "releases/abc/run").mkdir(parents=True)
    (tmp_path / "releases/abc/run/beat").touch()
    health, front = Health("/", 200, 30, 30, 1, 0), Front("listen", "", "", "")
    beat = Process("myapp-beat", "beat", True, 10, ())
    service = Service("myapp", str(tmp_path), 1, 1, health, front, (beat,), (), ())
    shown = iter([active(ago), ENDED])
    asked: list[object] = []

    def show_all(*words: object) -> dict[str, Mapping[str, str]]:
        asked.append(words)
        return {beat.of("blue"): next(shown)}

    monkeypatch.setattr(units, "show_all", show_all)
    monkeypatch.setattr(memory, "fault", lambda *_, **__: "")
    up = ProcessUnits(run, service)
    if looks == 2:
        with pytest.raises(Failed, match="does not stay up: it ended with exit status 4"):
            up.await_up("blue", "abc", now() - 10, single=True)
    else:
        up.await_up("blue", "abc", now() - 10, single=True)
    assert len(asked) == looks
