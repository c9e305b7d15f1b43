"""The guard of a run before there is a probation: it finishes or undoes a run that was killed."""

from __future__ import annotations

import fcntl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.engine.host import steps
from tasks.engine.host.steps import Activation, HostStep
from tests.promises.words import WHOLE
from tests.support.simulated_host import (
    NEW,
    OLD,
    SERVICE,
    SHARES,
    SimulatedHost,
    guard_of,
    host,
    serving,
    simulated_host,
)

__all__ = ["host", "simulated_host"]

SWITCH = Activation("deploy", NEW, OLD)
DEPLOY = steps.activate(SERVICE, SWITCH)
GUARD = guard_of(DEPLOY)
TRIED = steps.activate(SERVICE._replace(probation=5), SWITCH)
FIRST = steps.activate(SERVICE, Activation("deploy", NEW, None))
COMMIT = "link apps/current -> slots/green"
STARTED = "systemctl start myapp-probation@green.service"


@pytest.fixture(autouse=True)
def slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the slot, as the guard's unit does."""
    monkeypatch.setenv("SLOT", "green")


def killed_deploy(host: SimulatedHost, call: int) -> SimulatedHost:
    """Kill a host's deploy after this call, counted from 1."""
    serving(host)
    host.cut(call, "KILL")
    assert host.execute(DEPLOY) in {-9, 0}
    host.mend()
    return host


def good_run(folder: Path) -> list[str]:
    """Return the calls of a deploy without a fault."""
    folder.mkdir()
    return killed_deploy(SimulatedHost(folder), 0).calls


def require_whole(host: SimulatedHost, at: str) -> None:
    """Assert that one release serves, committed, alone, with its own workers; and that the history agrees."""
    done = COMMIT in host.calls
    assert (host.serves(), host.slot("current")) == ((NEW, "green") if done else (OLD, "blue")), at
    assert host.slot("live") == host.slot("current"), at
    assert (host.running(), host.leftovers()) == ({"green"} if done else {"blue"}, []), at
    assert host.workers() == host.running(), at
    assert host.history()[-1] == ("deploy", NEW, "done" if done else "failed"), at


@pytest.mark.promise(WHOLE, "a run is killed after any call since its guard began, on a simulated host", part=1)
@pytest.mark.parametrize("share", range(SHARES))
def test_a_run_that_is_killed_anywhere_is_finished_or_taken_back(tmp_path: Path, share: int) -> None:
    """Once: a run that was killed after its commit left workers with the release before; killed before it, one left
    an unwatched release until the next run.
    """
    calls = good_run(tmp_path / "whole")

    def cut(number: int) -> None:
        (tmp_path / str(number)).mkdir()
        host = killed_deploy(SimulatedHost(tmp_path / str(number)), number)
        assert host.execute(GUARD) in {0, 1}
        require_whole(host, f"{number}: {calls[number - 1]}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(cut, range(calls.index(STARTED) + 1 + share, len(calls) + 1, SHARES)))


@pytest.mark.promise(WHOLE, "a run is killed, and its guard after any call, on a simulated host", part=2)
@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("call", ["systemctl start myapp-live@green.service", COMMIT])
def test_its_guard_may_be_killed_too_and_begins_again(tmp_path: Path, call: str, share: int) -> None:
    calls = good_run(tmp_path / "whole")
    number = calls.index(call) + 1
    (tmp_path / "once").mkdir()
    once = killed_deploy(SimulatedHost(tmp_path / "once"), number)
    before = len(once.calls)
    once.execute(GUARD)

    def cut(further: int) -> None:
        (tmp_path / str(further)).mkdir()
        host = killed_deploy(SimulatedHost(tmp_path / str(further)), number)
        host.cut(before + further, "KILL")
        assert host.execute(GUARD) == -9, further
        host.mend()
        host.execute(GUARD)
        require_whole(host, f"{further}: {once.calls[before + further - 1]}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(cut, range(1 + share, len(once.calls) - before + 1, SHARES)))


def test_a_first_release_whose_run_is_killed_leaves_nothing_behind(
    simulated_host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOT", "blue")
    simulated_host.release(NEW)
    simulated_host.failpoint = "activate.front=die"
    assert simulated_host.execute(FIRST) == -9
    assert simulated_host.serves() == NEW
    assert simulated_host.execute(guard_of(FIRST)) == 1
    assert (simulated_host.run_folder / "live").readlink() == Path("none")
    assert (simulated_host.running(), simulated_host.leftovers()) == (set(), [])
    simulated_host.failpoint = ""
    assert simulated_host.execute(FIRST) == 0
    assert simulated_host.serves() == NEW


@pytest.mark.parametrize("failure", [False, True])
def test_of_a_run_that_came_to_its_end_there_is_nothing_to_do(host: SimulatedHost, failure: bool) -> None:
    if failure:
        (host.folder / "answers" / NEW).write_text("500")
    assert host.execute(DEPLOY) == failure
    before = (len(host.calls), host.history())
    assert host.execute(GUARD) == 0
    assert (len(host.calls), host.history()) == before


def test_the_next_run_lets_the_guard_of_a_dead_one_go_first(simulated_host: SimulatedHost) -> None:
    """The run would wait for the same lock, and might lose."""
    host = killed_deploy(simulated_host, good_run(simulated_host.folder / "whole").index(COMMIT) + 1)
    told: list[str] = []
    with (host.run_folder / "lock/guard").open("a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)

        def finish() -> None:
            fcntl.flock(guard, fcntl.LOCK_UN)
            told.append("waits")

        restart = steps.activate(SERVICE, Activation("restart", NEW, NEW))
        assert host.execute(restart, at="recover", do=finish) == 0
    assert told[:1] == ["waits"]
    assert any("the guard of an interrupted run" in said for said in host.transcript.all("step"))


def test_without_a_guard_there_is_no_switch(host: SimulatedHost) -> None:
    (host.folder / "refuse-myapp-probation@green.service").touch()
    assert host.execute(DEPLOY) == 1
    assert host.transcript.last("failed") == "the guard of this run did not start"
    assert (host.serves(), host.running(), host.leftovers()) == (OLD, {"blue"}, [])


@pytest.mark.parametrize("step", [DEPLOY, GUARD, TRIED], ids=["the run", "its guard", "a probation"])
def test_traffic_that_cannot_go_back_stays_with_what_answers(host: SimulatedHost, step: HostStep) -> None:
    if step is not TRIED:
        host.failpoint = f"activate.front={'fail' if step is DEPLOY else 'die'}"
    (host.folder / "refuse-myapp-live@blue.service").touch()
    host.execute(DEPLOY if step is GUARD else step)
    if step is TRIED:
        (host.folder / "answers" / NEW).write_text("500")
    if step is not DEPLOY:
        host.execute(GUARD)
    assert (host.serves(), host.running()) == (NEW, {"blue", "green"})
    assert host.history()[-1] == ("deploy", NEW, "failed")
    assert "the traffic could not go back" in (host.root / "history.jsonl").read_text()
    # If it dies, systemd may start it again.
    assert (host.run_folder / "try/green").exists()
