"""before_activate on a host: in the idle slot, with the arguments of its unit, and never beside another run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.engine.host import layout, steps
from tasks.engine.host.steps import Activation
from tests.support.simulated_host import NEW, OLD, OOM, SERVICE, SimulatedHost, at_work, serving

HOOK = steps.hook(SERVICE, NEW)
UNIT = "myapp-hook@green.service"
STEPS = ("hook.recover", "hook.returned", "hook.idle", "hook.start", "hook.ended")


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    """A host that serves; the next release has a hook."""
    made = serving(SimulatedHost(tmp_path))
    (made.root / f"releases/{NEW}/run").mkdir(exist_ok=True)
    (made.root / f"releases/{NEW}/run/hook").touch()
    return made


def test_it_runs_in_the_idle_slot_and_what_it_says_is_told(host: SimulatedHost) -> None:
    (host.folder / "journal").write_text("migrated\n")
    assert host.execute(HOOK) == 0
    assert (host.root / "slots/green/release").readlink() == Path(f"../../releases/{NEW}")
    assert f"systemctl start {UNIT}" in host.calls
    assert "migrated" in host.transcript.all("journal")
    assert host.history() == [("before_activate", NEW, "started"), ("before_activate", NEW, "done")]
    assert (host.serves(), host.running(), host.leftovers()) == (OLD, {"blue"}, [])
    told = json.loads((host.run_folder / "lock/activate").read_text())
    assert (told["action"], told["release"]) == ("before_activate", NEW)
    assert told["group"] > 0


def test_where_it_fails_that_is_told_with_its_words_and_forgotten_by_systemd(host: SimulatedHost) -> None:
    (host.folder / f"refuse-{UNIT}").touch()
    (host.folder / "journal").write_text("no such table\n")
    assert host.execute(HOOK) == 1
    assert host.transcript.last("failed") == "before_activate failed"
    assert "no such table" in host.transcript.all("journal")
    assert f"systemctl reset-failed {UNIT}" in host.calls
    assert host.history()[-1] == ("before_activate", NEW, "failed")
    assert host.serves() == OLD


def test_one_that_was_killed_for_want_of_memory_is_told_so(host: SimulatedHost) -> None:
    (host.folder / f"refuse-{UNIT}").touch()
    (host.folder / "journal.oom").write_text(OOM.format(UNIT))
    assert host.execute(HOOK) == 1
    assert (host.transcript.last("failed") or "").startswith(
        f"before_activate failed: a process of {UNIT} was killed for want of memory (OOM)"
    )


def test_a_release_without_one_is_refused(host: SimulatedHost) -> None:
    assert host.execute(steps.hook(SERVICE, OLD)) == 1
    assert host.transcript.last("refused") == f"release {OLD} has no before_activate"
    assert host.history() == []


def test_it_never_begins_beside_another_run(host: SimulatedHost) -> None:
    holder = {"action": "stop", "release": NEW, "who": {"user": "you"}, "group": 0}
    with at_work(host, holder):
        assert host.execute(HOOK) == 75
    assert json.loads(host.transcript.last("busy") or "") == holder
    assert host.history() == []


@pytest.mark.parametrize("step", [HOOK, steps.activate(SERVICE, Activation("deploy", NEW, OLD))])
@pytest.mark.parametrize("unit", [UNIT, "myapp-hook@blue.service"])
def test_no_run_begins_while_that_of_a_run_that_is_gone_is_at_work(
    host: SimulatedHost, step: steps.HostStep, unit: str
) -> None:
    host.unit(unit).write_text("activating")
    assert host.execute(step) == 1
    assert f"still at work here, as {unit}: wait for its end" in (host.transcript.last("refused") or "")
    assert (host.history(), host.serves()) == ([], OLD)


@pytest.mark.parametrize("unit", [UNIT, "myapp-hook@blue.service"])
@pytest.mark.parametrize(
    "step",
    [
        steps.hook(SERVICE, NEW, stop_first=True),
        steps.activate(SERVICE, Activation("rollback", NEW, OLD), stop_first=True),
    ],
)
def test_that_of_a_run_that_is_gone_is_ended_if_the_operator_says_so(
    host: SimulatedHost, step: steps.HostStep, unit: str
) -> None:
    """Once: a rollback was refused for half an hour, whatever the operator said, and only root could end it."""
    host.unit(unit).write_text("activating")
    assert host.execute(step) == 0
    ended = host.calls.index(f"systemctl stop {layout.run_slices(SERVICE)[0]}")
    assert ended < host.calls.index(f"systemctl reset-failed {unit}")
    assert f"stop {unit}, of an abandoned run" in host.transcript.all("step")


@pytest.mark.parametrize("step", STEPS)
def test_broken_at_a_step_it_leaves_what_serves_and_the_next_one_goes_on(host: SimulatedHost, step: str) -> None:
    for action, status in (("fail", 1), ("die", -9)):
        host.failpoint = f"{step}={action}"
        assert host.execute(HOOK) == status
        assert (host.serves(), host.running()) == (OLD, {"blue"})
    host.failpoint = ""
    assert host.execute(HOOK) == 0


def test_what_is_left_of_a_run_that_died_is_stopped_before(host: SimulatedHost) -> None:
    host.unit("myapp@green.service").write_text("active")
    (host.run_folder / "try/green").touch()
    assert host.execute(HOOK) == 0
    assert "recover slot green is stopped" in host.transcript.all("step")
    assert (host.running(), host.leftovers()) == ({"blue"}, [])
