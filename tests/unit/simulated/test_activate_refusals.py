"""Refusals of an activation before it starts a unit: the host is busy or has changed, or the release is not whole."""

from __future__ import annotations

import hashlib
import json

import pytest

from tasks.engine.host import steps
from tasks.engine.host.steps import Activation
from tests.support.simulated_host import NEW, OLD, SERVICE, SimulatedHost, at_work, host

__all__ = ["host"]

DEPLOY = steps.activate(SERVICE, Activation("deploy", NEW, OLD))


def test_who_comes_second_is_told_who_is_at_work(host: SimulatedHost) -> None:
    holder = {"action": "deploy", "release": OLD, "who": {"user": "you"}}
    with at_work(host, holder):
        assert host.execute(DEPLOY) == 75
    assert json.loads(host.transcript.last("busy") or "") == holder
    assert (host.calls, host.history()) == ([], [])


def test_who_works_is_written_where_the_second_one_looks(host: SimulatedHost) -> None:
    seen: list[str] = []
    assert (
        host.execute(DEPLOY, at="check", do=lambda: seen.append((host.run_folder / "lock/activate").read_text())) == 0
    )
    told = json.loads(seen[0])
    assert (told["action"], told["release"], told["who"]) == ("deploy", NEW, {"user": "me"})


def test_a_host_that_somebody_changed_since_the_plan_is_left_alone(host: SimulatedHost) -> None:
    assert host.execute(steps.activate(SERVICE, Activation("deploy", NEW, "c" * 12))) == 76
    assert host.transcript.last("moved") == OLD
    assert (host.serves(), host.running(), host.history()) == (OLD, {"blue"}, [])


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("code/app.py", f"release {NEW} is damaged on this host"),
        ("MANIFEST", f"release {NEW} has no list of its files"),
        ("venv/bin/gunicorn", f"the venv of release {NEW} is damaged, or its Python is gone"),
    ],
)
def test_a_release_that_is_not_whole_is_never_started(host: SimulatedHost, fault: str, told: str) -> None:
    path = host.root / "releases" / NEW / fault
    if fault in {"MANIFEST", "venv/bin/gunicorn"}:
        path.unlink()
    else:
        path.write_text("#!/bin/false\n")
    assert host.execute(DEPLOY) == 1
    assert told in (host.transcript.last("refused") or "")
    assert (host.history(), host.running()) == ([], {"blue"})


@pytest.mark.parametrize(("action", "status"), [("restart", 0), ("undo", 0), ("rollback", 1), ("deploy", 1)])
def test_what_a_former_account_has_left_goes_on_serving_and_is_no_target(
    host: SimulatedHost, action: str, status: int
) -> None:
    """A hand-over removes the list of each release."""
    (host.root / "releases" / OLD / "MANIFEST").unlink()
    assert host.execute(steps.activate(SERVICE, Activation(action, OLD, OLD))) == status
    assert host.serves() == OLD


def test_a_launcher_that_was_edited_is_never_run(host: SimulatedHost) -> None:
    home = host.root / "releases" / NEW
    (home / "run").mkdir(exist_ok=True)
    (home / "run/web").write_text("exec true")
    (home / "LAUNCHERS").write_text(f"{hashlib.sha256(b'exec true').hexdigest()}  run/web\n")
    assert host.execute(DEPLOY) == host.execute(steps.activate(SERVICE, Activation("rollback", OLD, NEW))) == 0
    (home / "run/web").write_text("exec false\n")
    assert host.execute(DEPLOY) == 1
    assert f"the launchers of release {NEW} were edited" in (host.transcript.last("refused") or "")
    assert host.serves() == OLD


def test_a_history_that_cannot_be_written_is_named_before_anything_changes(host: SimulatedHost) -> None:
    (host.root / "history.jsonl").mkdir()
    assert host.execute(DEPLOY) == 1
    assert (host.transcript.last("failed") or "").endswith("history.jsonl: Is a directory")
    assert (host.serves(), host.running(), host.leftovers()) == (OLD, {"blue"}, [])
    assert not [call for call in host.calls if call.startswith("link ")]
