"""A run of the host's program in this process, whose locks are in the test's directory."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from templates.host import locks
from templates.host.run import Run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run on a service with its locks in the test's directory; it reports to no reader."""
    for name in ("activate", "history", "guard", "stage"):
        (tmp_path / "myapp/lock").mkdir(parents=True, exist_ok=True)
        (tmp_path / "myapp/lock" / name).touch()
    monkeypatch.setattr(locks, "RUN", str(tmp_path))
    made = Run(("n", "20260101T000000-abc123", '{"user":"me"}', ""), {"name": "myapp"}, io.BytesIO())
    monkeypatch.setattr(made, "report", lambda *_: made.heed())
    return made
