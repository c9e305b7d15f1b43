"""The start of a slot in an activation: checks before it, start limits that systemd resets, and refusals."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.engine.config.service import Process
from tasks.engine.host import layout, steps
from tasks.engine.host.steps import Activation, HostStep
from tests.support.simulated_host import NEW, OLD, SERVICE, SimulatedHost, guard_of, host

__all__ = ["host"]

DEPLOY = steps.activate(SERVICE, Activation("deploy", NEW, OLD))
START = "systemctl start myapp@green.service"
FORGET = "systemctl reset-failed myapp@green.service myapp@green.socket"
LOOK = "systemctl show myapp@green.service --no-pager -p MainPID -p NRestarts -p ActiveState -p Result"


def place_candidate(host: SimulatedHost, seconds: float) -> None:
    """Place a release in the idle slot this many seconds ago."""
    link = host.root / "slots/green/release"
    link.symlink_to(f"../../releases/{OLD}")
    then = time.time() - seconds
    os.utime(link, (then, then), follow_symlinks=False)


@pytest.mark.parametrize(("seconds", "forgotten"), [(2, True), (-3600, True), (120, False)])
def test_what_counts_for_the_start_limit_is_forgotten_while_it_counts(
    host: SimulatedHost, seconds: float, forgotten: bool
) -> None:
    """A clock that was set back tells nothing of the time."""
    place_candidate(host, seconds)
    assert host.execute(DEPLOY) == 0
    assert (FORGET in host.calls) == forgotten
    assert not forgotten or host.calls.index(FORGET) < host.calls.index(START)


@pytest.mark.parametrize("unit", ["myapp@green.service", "myapp@green.socket"])
def test_a_start_that_is_refused_for_the_limit_is_asked_for_again(host: SimulatedHost, unit: str) -> None:
    for name in {unit, "myapp@green.service"}:
        (host.folder / f"limit-{name}").touch()
    assert host.execute(DEPLOY) == 0
    assert [call for call in host.calls if call in {START, FORGET}] == [START, FORGET, START]
    assert host.serves() == NEW


def test_a_slot_that_systemd_had_to_start_again_is_forgotten_when_it_is_retired(host: SimulatedHost) -> None:
    (host.folder / "restarts-myapp@blue.service").write_text("2")
    assert host.execute(DEPLOY) == 0
    assert "systemctl reset-failed myapp@blue.service myapp@blue.socket" in host.calls


@pytest.mark.parametrize(("drain", "seconds", "cut_off"), [(0, "0.5", True), (1, "1.5", True), (3, "0.5", False)])
def test_who_is_left_at_the_end_of_the_drain_is_counted_and_nobody_before(
    host: SimulatedHost, drain: int, seconds: str, cut_off: bool
) -> None:
    (host.folder / "slow-stop").write_text(seconds)
    (host.folder / "late").write_text("a\nb\n")
    assert host.execute(steps.activate(SERVICE._replace(drain=drain), Activation("deploy", NEW, OLD))) == 0
    told = f"slot blue: 2 requests were still under way after {drain} s, and were cut off"
    assert (told in host.guard_said) == cut_off
    assert host.state("myapp@blue.service") == "inactive"


def with_bounds(step: HostStep) -> HostStep:
    """Return the step with bounds of a second."""
    return step._replace(text=step.text.replace('"start_timeout": 60', '"start_timeout": -4'))


def test_a_start_that_is_put_off_for_ever_is_ended(host: SimulatedHost) -> None:
    (host.folder / "hang-myapp@green.service").touch()
    assert host.execute(with_bounds(DEPLOY)) == 1
    assert "slot green was not ready within" in (host.transcript.last("failed") or "")
    assert (host.serves(), host.running()) == (OLD, {"blue"})


def test_an_end_that_is_put_off_for_ever_is_made(host: SimulatedHost) -> None:
    (host.folder / "hang-myapp@blue.service").touch()
    # With a bound of a second.
    assert host.execute(steps.stop(SERVICE._replace(drain=-14), disable=False)) == 0
    assert "systemctl kill -s KILL myapp@blue.service" in host.calls
    assert "and was killed" in (host.transcript.last("warning") or "")
    assert host.running() == set()


FIRST = [
    "systemctl kill -s KILL myapp@blue.service",
    "systemctl stop myapp@blue.service myapp@blue.socket",
    "systemctl kill -s KILL myapp-worker@blue.service myapp-worker@green.service",
    "systemctl stop myapp-worker@blue.service myapp-worker@green.service",
]


def test_what_serves_is_ended_before_its_successor_starts_where_that_was_asked_for(host: SimulatedHost) -> None:
    service = SERVICE._replace(probation=30)
    assert host.execute(steps.activate(service, Activation("deploy", NEW, OLD), stop_first=True)) == 0
    assert [call for call in host.calls if call in {*FIRST, START}][:5] == [*FIRST, START]
    assert host.transcript.last("probation") is None
    assert [one for one in host.transcript.all("step") if one.startswith("switch no request was answered for")]
    assert (host.serves(), host.running()) == (NEW, {"green"})
    assert not (host.folder / "refused").exists()


def test_what_is_ended_first_cannot_put_off_its_end_either(host: SimulatedHost) -> None:
    """Where systemd is slow, it may start the slot again between the kill and the stop."""
    for name in ("again", "hang"):
        (host.folder / f"{name}-myapp@blue.service").touch()
    # With a bound of a second.
    step = steps.activate(SERVICE._replace(drain=-14), Activation("deploy", NEW, OLD), stop_first=True)
    assert host.execute(step) == 0
    kill, stop = FIRST[:2]
    ours = [call for call in host.calls if call in {kill, stop, START}]
    assert ours[:4] == [kill, stop, kill, START]


def test_what_was_ended_first_is_started_again_where_its_successor_fails(host: SimulatedHost) -> None:
    (host.folder / "answers" / NEW).write_text("503")
    assert host.execute(steps.activate(SERVICE, Activation("deploy", NEW, OLD), stop_first=True)) == 1
    assert host.transcript.last("killed") is None
    assert host.calls.index("systemctl start myapp@blue.service") > host.calls.index(START)
    assert host.workers() == {"blue"}
    assert (host.serves(), host.running()) == (OLD, {"blue"})


def test_a_history_that_cannot_be_written_keeps_nobody_from_ending_what_fills_the_disk(host: SimulatedHost) -> None:
    (host.root / "history.jsonl").mkdir()
    assert host.execute(steps.activate(SERVICE, Activation("rollback", NEW, OLD))) == 1
    assert host.serves() == OLD
    assert host.execute(steps.activate(SERVICE, Activation("rollback", NEW, OLD), stop_first=True)) == 0
    assert "this is not in the history" in (host.transcript.last("warning") or "")
    assert (host.serves(), host.running()) == (NEW, {"green"})
    assert host.execute(steps.stop(SERVICE, disable=False)) == 0
    assert "stop, done: this is not in the history" in (host.transcript.last("warning") or "")
    assert host.running() == set()


def test_commands_of_the_former_release_are_ended_before_its_successor_starts(host: SimulatedHost) -> None:
    assert host.execute(steps.activate(SERVICE, Activation("deploy", NEW, OLD), stop_first=True)) == 0
    assert host.calls.index(f"systemctl stop {layout.run_slices(SERVICE)[0]}") < host.calls.index(START)


def test_health_commands_of_a_release_that_is_undone_are_ended(host: SimulatedHost) -> None:
    worker = Process("worker", "python -m jobs", health="python -m ping")
    service = SERVICE._replace(processes=(SERVICE.processes[0], worker))
    (host.folder / "answers" / NEW).write_text("503")
    assert host.execute(steps.activate(service, Activation("deploy", NEW, OLD))) == 1
    assert f"systemctl stop {layout.run_slices(SERVICE)[1]}" in host.calls


def test_a_candidate_that_a_signal_ended_is_told_with_the_commands_at_work(host: SimulatedHost) -> None:
    host.unit("myapp-run@7-1-1000.service").write_text("active")
    (host.folder / "result-myapp@green.service").write_text("signal")
    (host.folder / "refuse-myapp@green.service").touch()
    assert host.execute(steps.activate(SERVICE, Activation("deploy", NEW, OLD))) == 1
    why = host.transcript.last("failed") or ""
    assert "a signal has ended it. At work beside it, under the same account: myapp-run@7-1-1000.service (for " in why


def test_rules_of_an_older_version_stop_nothing(host: SimulatedHost) -> None:
    rules = (host.folder / "rules").read_text()
    (host.folder / "rules").write_text(rules.replace(f"{FIRST[-1]}\n", ""))
    assert host.execute(steps.activate(SERVICE, Activation("deploy", NEW, OLD), stop_first=True)) == 1
    assert "fab setup writes the rules" in (host.transcript.last("failed") or "")
    assert not {*FIRST} & {*host.calls}
    assert host.serves() == OLD


def interpreter(host: SimulatedHost, log: Path) -> Path:
    """Make a Python 3.11 that logs its starts, and the releases' venv for it; return that venv."""
    program = host.folder / "python3.11"
    program.write_text(f"#!/bin/sh\necho started >>'{log}'\n")
    program.chmod(0o755)
    venv = host.root / "venvs" / ("1" * 16)
    (venv / "bin/python").unlink()
    (venv / "bin/python").symlink_to(program)
    (venv / "lib/python3").rename(venv / "lib/python3.11")
    return venv


def venv_message(release: str) -> str:
    """Return the message about its venv."""
    return f"the venv of release {release} is damaged, or its Python is gone: deploy that content again"


GUNICORN = "lib/python3.11/site-packages/gunicorn/__init__.py"


@pytest.mark.parametrize("listed", [True, False])
def test_no_python_is_started_to_see_whether_a_venv_is_whole(host: SimulatedHost, listed: bool) -> None:
    log = host.folder / "pythons"
    venv = interpreter(host, log)
    if listed:
        host.list_venv(venv)
    assert host.execute(DEPLOY) == 0
    (venv / GUNICORN).unlink()
    assert host.execute(steps.activate(SERVICE, Activation("rollback", OLD, NEW))) == 1
    assert host.transcript.last("refused") == venv_message(OLD)
    assert (host.serves(), len(host.history())) == (NEW, 2)
    assert not log.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda venv: (venv / GUNICORN).write_text("edited"),
        lambda venv: os.utime(venv / GUNICORN, (1, 1)),
        lambda venv: (venv / "by_hand.pth").write_text("import os"),
        lambda venv: (venv / "bin/gunicorn").chmod(0o644),
        lambda venv: (venv / "lib/python3.11").rename(venv / "lib/python3.10"),
        lambda venv: (venv / "bin/python").unlink(),
    ],
)
def test_a_venv_that_is_not_what_its_list_says_is_refused(
    host: SimulatedHost, damage: Callable[[Path], object]
) -> None:
    venv = interpreter(host, host.folder / "pythons")
    host.list_venv(venv)
    damage(venv)
    assert host.execute(DEPLOY) == 1
    assert host.transcript.last("refused") == venv_message(NEW)
    assert (host.serves(), host.history(), START in host.calls) == (OLD, [], False)


def test_bytecode_and_a_restored_backup_leave_a_venv_whole(host: SimulatedHost) -> None:
    venv = interpreter(host, host.folder / "pythons")
    host.list_venv(venv)
    (venv / GUNICORN).parent.joinpath("__pycache__").mkdir()
    (venv / GUNICORN).parent.joinpath("__pycache__/__init__.cpython-311.pyc").write_text("x")
    # tar keeps times in whole seconds.
    second = int((venv / GUNICORN).stat().st_mtime)
    os.utime(venv / GUNICORN, (second, second))
    assert host.execute(DEPLOY) == 0


def test_a_venv_without_its_python_is_refused_before_anything_is_started(host: SimulatedHost) -> None:
    interpreter(host, host.folder / "pythons")
    (host.folder / "python3.11").unlink()
    assert host.execute(DEPLOY) == 1
    assert host.transcript.last("refused") == venv_message(NEW)
    assert (host.serves(), host.history(), START in host.calls) == (OLD, [], False)


def test_a_slot_that_does_not_start_for_its_venv_says_so(host: SimulatedHost) -> None:
    venv = interpreter(host, host.folder / "pythons")
    (host.folder / "refuse-myapp@green.service").touch()
    assert host.execute(DEPLOY, at="start", do=(venv / GUNICORN).unlink) == 1
    assert host.transcript.last("failed") == f"slot green did not start: {venv_message(NEW)}"
    assert (host.serves(), host.running()) == (OLD, {"blue"})


def test_systemd_is_asked_once_for_as_long_as_the_main_process_is_there(host: SimulatedHost) -> None:
    children = host.folder / "proc/101/task/101/children"
    children.parent.mkdir(parents=True)
    children.write_text("201 202 ")
    assert host.execute(DEPLOY) == 0
    assert host.calls.count(LOOK) == 1


def test_a_link_that_leads_to_an_odd_name_stops_no_deploy(host: SimulatedHost) -> None:
    (host.root / "slots/green/release").symlink_to("../../releases/a\tb\nc")
    assert host.execute(DEPLOY) == 0
    assert FORGET in host.calls


def test_the_end_of_a_slot_is_waited_for_even_if_nobody_hears_of_it(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program waits for the end of the slot without a reader: it counts connections after the drain, not before."""
    (host.folder / "slow-stop").write_text("0.5")
    (host.root / "slots/green").mkdir(exist_ok=True)
    (host.root / "slots/green/release").symlink_to(f"../../releases/{NEW}")
    (host.root / "current").unlink()
    (host.root / "current").symlink_to("slots/green")
    (host.run_folder / "ctl/probation").mkdir()
    (host.run_folder / "ctl/probation/until").write_text("drain 100000\n")
    unheard, end = os.pipe()
    os.close(unheard)
    monkeypatch.setenv("SLOT", "green")
    ended = host.unheard(guard_of(DEPLOY), end)
    os.close(end)
    assert ended == 0
    assert host.state("myapp@blue.service") == "inactive"
