"""The failpoints: all are listed and reached, only the controller's own environment sets them, and unused
they cost nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.engine.errors import LoopError, UsageError
from tasks.engine.fleet import failpoints
from tasks.engine.host import steps
from tasks.engine.host.steps import Activation
from tests.promises.words import AGAIN
from tests.support.clone import Clone
from tests.support.hosts import Hosts
from tests.support.simulated_host import NEW, OLD, SERVICE, SimulatedHost, host, serving, simulated_host

__all__ = ["host", "simulated_host"]

ROOT = Path(__file__).resolve().parents[3]
OF_SCRIPTS = [name for name in failpoints.names() if not name.startswith("controller.")]


def bad(host: SimulatedHost) -> None:
    """The new slot never answers."""
    (host.folder / f"answers/{NEW}").write_text("503\n")


def activation(action: str) -> list[tuple[str, Callable[[SimulatedHost], None]]]:
    """Return each step of an activation that needs no probation, with the preparation that makes a run pass it."""
    made: dict[str, Callable[[SimulatedHost], None]] = {"undo": bad, "undone": bad, "failed": bad}
    of_probation = {"activate.probation", "activate.watching"}
    names = [name for name in OF_SCRIPTS if name.startswith(f"{action}.") and name not in of_probation]
    return [(name, made.get(name.partition(".")[2], lambda _: None)) for name in names]


def test_what_is_listed_is_what_is_in_the_scripts_and_in_the_controller() -> None:
    there = set()
    for path in (ROOT / "templates/host").glob("*.py"):
        for name in re.findall(r"""point\(f?[\"']([^\"']+)""", path.read_text()):
            # A step shared by a run and its guard is named for its stage; so is the recovery, which a hook has, too.
            stages = ["activate", "undo", *{"attempt": ["probation"], "recover": ["hook"]}.get(path.stem, [])]
            there |= {re.sub(r"\{[a-z.]+\}", stage, name) for stage in stages}
    reached = set()
    for path in (ROOT / "tasks").rglob("*.py"):
        reached |= set(re.findall(r'reach\("([a-z.]+)"\)', path.read_text()))
    assert set(OF_SCRIPTS) == there
    assert set(failpoints.CONTROLLER) == reached
    assert len(failpoints.names()) == len(set(failpoints.names()))


def by_step() -> list[tuple[str, Callable[[SimulatedHost], None]]]:
    """Return the steps of a deploy and those of an undo, pair by pair: a short run tries one of each."""
    return sorted([*activation("activate"), *activation("undo")], key=lambda each: each[0].partition(".")[2])


@pytest.mark.promise(AGAIN, "a failpoint at each step of an activation, on a simulated host", part=26)
@pytest.mark.parametrize(("name", "ready"), by_step())
def test_each_step_of_an_activation_is_passed_and_breaks_there(
    tmp_path: Path, name: str, ready: Callable[[SimulatedHost], None]
) -> None:
    host = serving(SimulatedHost(tmp_path))
    ready(host)
    host.failpoint = f"{name}=fail"
    action = "undo" if name.startswith("undo.") else "deploy"
    assert host.execute(steps.activate(SERVICE, Activation(action, NEW, OLD))) != 0
    assert host.transcript.last("refused") == f"failpoint {name}"


@pytest.mark.parametrize("action", failpoints.ACTIONS)
def test_a_step_of_another_stage_breaks_nothing(host: SimulatedHost, action: str) -> None:
    host.failpoint = f"undo.switch={action}"
    assert host.execute(steps.activate(SERVICE, Activation("deploy", NEW, OLD))) == 0


def test_killed_there_it_says_no_last_word_and_its_traps_do_not_run(host: SimulatedHost) -> None:
    host.failpoint = "activate.switch=die"
    assert host.execute(steps.activate(SERVICE, Activation("deploy", NEW, OLD))) == -9
    assert (host.slot("live"), host.slot("current"), host.running()) == ("green", "blue", {"blue", "green"})


def test_the_environment_of_a_host_sets_none(simulated_host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILPOINT", "activate.switch=die")
    host = serving(simulated_host)
    assert host.execute(steps.activate(SERVICE, Activation("deploy", NEW, OLD))) == 0
    assert host.serves() == NEW


@pytest.mark.parametrize(
    ("text", "told", "then"),
    [
        ("activate.swich=die", "no failpoint 'activate.swich'", "FAILPOINT=activate.switch=die"),
        ("nonsense=die", "no failpoint 'nonsense'", "fab failpoints"),
        ("activate.switch=explode", "not 'explode'", "FAILPOINT=activate.switch=die"),
        ("activate.switch", "not ''", "FAILPOINT=activate.switch=die"),
    ],
)
def test_one_that_does_not_exist_is_refused_before_any_contact(clone: Clone, text: str, told: str, then: str) -> None:
    with pytest.raises(UsageError, match=told) as refused:
        failpoints.setting({"FAILPOINT": text}, "shire01")
    assert refused.value.next == then
    clone.write("hosts.yaml", "hosts: {shire01: {address: 127.0.0.1, port: 1}}\n")
    clone.environment["FAILPOINT"] = text
    ended = clone.fab("deploy", "-H", "shire01")
    assert ended.status == 2
    assert told in ended.err
    assert "Traceback" not in ended.both


def test_a_host_may_be_named() -> None:
    setting = {"FAILPOINT": "activate.switch=die@shire02"}
    assert failpoints.setting(setting, "shire01") == ""
    assert failpoints.setting(setting, "shire02") == "activate.switch=die"
    assert failpoints.setting({}, "shire01") == ""
    with pytest.raises(LoopError, match=r"failpoint controller\.send"):
        failpoints.reach("controller.send=fail", "controller.send", "shire01")
    failpoints.reach("controller.send=fail", "controller.lock", "shire01")


def test_the_text_that_runs_is_the_same_with_one_and_without(clone: Clone, one_host: Hosts) -> None:
    clone.inventory = one_host.inventory
    plain = clone.done("plan", "--steps").out
    clone.environment["FAILPOINT"] = "activate.switch=die"
    assert clone.done("plan", "--steps").out == plain
    assert '"step": "activate"' in plain
