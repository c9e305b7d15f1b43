"""The guard in a probation on a simulated host: commits, rollbacks, and its state after a cut."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.engine.host import facts, questions, steps
from tasks.engine.host.steps import Activation
from tests.promises.words import WHOLE
from tests.support.simulated_host import (
    NEW,
    OLD,
    OOM,
    SERVICE,
    SHARES,
    SimulatedHost,
    guard_of,
    host,
    serving,
    simulated_host,
)

__all__ = ["host", "simulated_host"]

WATCH = guard_of(steps.activate(SERVICE, Activation("deploy", NEW, OLD)))
BACK = "systemctl start myapp-live@blue.service"
COMMIT = "link apps/current -> slots/green"


@pytest.fixture(autouse=True)
def slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the slot, as the guard's unit does."""
    monkeypatch.setenv("SLOT", "green")


def tried(host: SimulatedHost, seconds: int = 3) -> SimulatedHost:
    """Return the host with OLD committed in slot blue, and NEW on probation in slot green."""
    serving(host)
    (host.root / "slots/green/is-green").touch()
    (host.root / "slots/green/release").symlink_to(f"../../releases/{NEW}")
    (host.run_folder / "try/green").touch()
    (host.run_folder / "live").unlink()
    (host.run_folder / "live").symlink_to("green")
    host.unit("myapp@green.service").write_text("active")
    host.unit("myapp-worker@green.service").write_text("active")
    (host.run_folder / "ctl/probation").mkdir()
    (host.run_folder / "ctl/probation/until").write_text(f"{100_000 + seconds * 100}\n")
    (host.root / "history.jsonl").write_text("")
    return host


def set_answers(host: SimulatedHost, *statuses: int) -> None:
    """Let the health check of NEW return these statuses, one an answer; the last one stays."""
    lines = host.folder / "statuses"
    lines.write_text("".join(f"{status}\n" for status in statuses))
    answer = host.folder / "answers" / NEW
    answer.write_text(f"{statuses[0]}\n")
    (host.folder / "on-curl").write_text(
        f'[ "$(wc -l <{lines})" = 1 ] || sed -i 1d {lines}\nhead -n 1 {lines} >{answer}\n'
    )


def committed(host: SimulatedHost) -> bool:
    """Assert that NEW is committed, and no file of its probation is left."""
    assert (host.serves(), host.slot("current"), host.running()) == (NEW, "green", {"green"})
    assert host.workers() == {"green"}
    return host.history() == [("deploy", NEW, "done")] and host.leftovers() == []


def returned(host: SimulatedHost) -> str:
    """Assert that OLD has the traffic again, alone; return the reason."""
    assert (host.serves(), host.slot("current"), host.running()) == (OLD, "blue", {"blue"})
    assert host.history() == [("deploy", NEW, "returned")]
    assert (host.workers(), host.leftovers()) == ({"blue"}, [])
    return (host.root / "history.jsonl").read_text().partition('"why":"')[2].partition('"')[0]


def test_what_holds_is_committed_and_then_the_former_slot_is_stopped(simulated_host: SimulatedHost) -> None:
    host = tried(simulated_host)
    assert host.execute(WATCH) == 0
    assert committed(host)
    changes = [call for call in host.calls if not call.startswith(("curl", "ss", "systemctl show", "systemctl list"))]
    assert changes == [
        "systemctl stop --no-block myapp-worker@blue.service",
        "systemctl start --no-block myapp-worker@green.service",
        COMMIT,
        *("sync apps", "sync apps/slots/green"),
        "systemctl stop myapp@blue.service myapp@blue.socket",
    ]
    # A sleep is a second here: asked at 0, 1 and 2.
    assert len([call for call in host.calls if call.startswith("curl")]) == 3


@pytest.mark.parametrize("action", ["rollback", "undo"])
def test_a_run_that_goes_back_says_which_release_served_and_which_was_committed(
    simulated_host: SimulatedHost, action: str
) -> None:
    host = tried(simulated_host)
    assert host.execute(steps.activate(SERVICE, Activation(action, OLD, OLD, on_probation=NEW))) == 0
    assert (host.transcript.last("served"), host.transcript.last("before")) == (NEW, OLD)


def test_a_former_slot_that_cannot_be_stopped_ends_no_worker_a_second_time(simulated_host: SimulatedHost) -> None:
    host = tried(simulated_host)
    rules = host.folder / "rules"
    kept = [rule for rule in rules.read_text().splitlines(keepends=True) if "stop myapp@blue.service" not in rule]
    rules.write_text("".join(kept))
    assert host.execute(WATCH) == 1
    assert (host.serves(), host.slot("current")) == (NEW, "green")
    assert host.calls.count("systemctl start --no-block myapp-worker@green.service") == 1


@pytest.mark.parametrize("statuses", [(200, 500, 200, 200), (500, 200, 200, 500, 200)])
def test_one_wrong_answer_of_many_is_forgiven(simulated_host: SimulatedHost, statuses: tuple[int, ...]) -> None:
    host = tried(simulated_host, 6)
    set_answers(host, *statuses)
    assert host.execute(WATCH) == 0
    assert committed(host)


@pytest.mark.parametrize(
    ("statuses", "asked"),
    [((500,), 2), ((200, 200, 500), 4), ((200, 500) * 9, 6)],
    ids=["at once", "in its last second", "every second one"],
)
def test_wrong_answers_send_it_back_even_if_the_time_is_up_before_they_are_sure(
    simulated_host: SimulatedHost, statuses: tuple[int, ...], asked: int
) -> None:
    """Once: a release that began to hang in the last seconds of its probation was committed."""
    host = tried(simulated_host)
    set_answers(host, *statuses)
    assert host.execute(WATCH) == 1
    assert returned(host).startswith("the health check of the release did not hold: answered 500, not 200")
    assert len([call for call in host.calls if call.startswith("curl")]) == asked
    # First the traffic moves, then the failed slot stops.
    assert host.calls.index(BACK) < host.calls.index("systemctl stop myapp@green.service myapp@green.socket")


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("units/myapp@green.service", "failed", "the main process of the release died, or was stopped"),
        ("units/myapp@green.service", "inactive", "the main process of the release died, or was stopped"),
        ("units/myapp@green.service", "activating", "the main process of the release died, or was stopped"),
        ("restarts", "1", "the main process of the release died, or was stopped"),
        ("main", "102", "the main process of the release died, or was stopped"),
        ("proc/101/task/101/children", "201 203 ", "a worker died"),
    ],
)
def test_processes_that_end_send_it_back(simulated_host: SimulatedHost, file: str, content: str, why: str) -> None:
    host = tried(simulated_host)
    children = host.folder / "proc/101/task/101/children"
    children.parent.mkdir(parents=True)
    children.write_text("201 202 ")
    (host.folder / "on-curl").write_text(f"printf '%s' '{content}' >'{host.folder}/{file}'")
    assert host.execute(WATCH) == 1
    assert returned(host) == why


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [("main", "102", "the main process of the release died"), ("proc/101/task/101/children", "203", "a worker died")],
)
def test_processes_that_were_killed_for_want_of_memory_send_it_back_and_are_told_so(
    simulated_host: SimulatedHost, file: str, content: str, why: str
) -> None:
    host = tried(simulated_host)
    children = host.folder / "proc/101/task/101/children"
    children.parent.mkdir(parents=True)
    children.write_text("201 202 ")
    (host.folder / "on-curl").write_text(f"printf '%s' '{content}' >'{host.folder}/{file}'")
    (host.folder / "journal.oom").write_text(OOM.format("myapp@green.service"))
    assert host.execute(WATCH) == 1
    assert returned(host).startswith(why)
    # A history has no @.
    assert ": a process of myapp green.service was killed for want of memory (OOM)." in returned(host)


@pytest.mark.parametrize("status", [200, 500])
def test_it_needs_nothing_of_python_that_it_has_not_loaded(simulated_host: SimulatedHost, status: int) -> None:
    """An upgrade of the system may remove the standard library meanwhile."""
    host = tried(simulated_host)
    children = host.folder / "proc/101/task/101/children"
    children.parent.mkdir(parents=True)
    children.write_text("201 202 ")
    set_answers(host, status)
    (host.folder / "sealed").touch()
    assert host.execute(WATCH) == (0 if status == 200 else 1)
    if status == 200:
        assert committed(host)
    else:
        assert returned(host).startswith("the health check of the release did not hold: answered 500, not 200")


def test_workers_that_end_after_so_many_requests_are_no_fault(simulated_host: SimulatedHost) -> None:
    host = tried(simulated_host)
    children = host.folder / "proc/101/task/101/children"
    children.parent.mkdir(parents=True)
    children.write_text("201 202 ")
    (host.root / "releases" / NEW / "code/gunicorn.conf.py").write_text("max_requests = 9\n")
    (host.folder / "on-curl").write_text(f"printf '201 203 ' >{children}")
    assert host.execute(WATCH) == 0
    assert committed(host)


@pytest.mark.parametrize("failpoint", ["", "probation.sweep=fail"])
def test_a_guard_that_is_restarted_and_fails_writes_why(simulated_host: SimulatedHost, failpoint: str) -> None:
    """Once: after a kill a guard could not write to a full /run, and recorded that another run had ended it."""
    host = tried(simulated_host)
    (host.run_folder / "ctl/probation/run").mkdir(exist_ok=True)
    host.failpoint = failpoint
    host.execute(WATCH)
    if failpoint:
        assert "Is a directory" in returned(host)
    else:
        # Without a failpoint it has nothing to write there.
        assert committed(host)


def test_a_guard_that_waits_to_stop_what_failed_ends_at_a_signal(simulated_host: SimulatedHost) -> None:
    """Once: a run that held the lock and stopped the guard waited for it, and the guard for the lock."""
    host = tried(simulated_host)
    set_answers(host, 500)
    asked, locked, guard = host.folder / "asked", host.folder / "locked", host.run_folder / "lock/guard"
    with (host.folder / "on-curl").open("a") as file:
        file.write(f"touch {asked}\nwhile ! [ -e {locked} ]; do /bin/sleep 0.01; done\n")

    def stop() -> None:
        """Take the lock while the guard watches; once it has moved the traffic, tell it to end until it does."""
        with (host.run_folder / "lock/activate").open("a") as lock:
            while not asked.exists():
                time.sleep(0.01)
            fcntl.flock(lock, fcntl.LOCK_EX)
            locked.touch()
            while pid := holder(guard):
                if host.history():
                    os.kill(pid, signal.SIGTERM)
                time.sleep(0.1)

    with ThreadPoolExecutor() as pool:
        stopping = pool.submit(stop)
        assert host.execute(WATCH) == 129
        stopping.result()
    assert (host.serves(), host.history()) == (OLD, [("deploy", NEW, "returned")])


def holder(lock: Path) -> int:
    """Return the process that holds a lock; 0 if it is free."""
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return next((int(pid) for *_, pid, file, _, _ in lines if file.endswith(f":{lock.stat().st_ino}")), 0)


def test_a_former_slot_that_is_not_up_is_started_before_the_traffic_comes(simulated_host: SimulatedHost) -> None:
    host = tried(simulated_host)
    host.unit("myapp@blue.service").write_text("inactive")
    set_answers(host, 500)
    assert host.execute(WATCH) == 1
    returned(host)
    assert host.calls.index("systemctl start myapp@blue.service") < host.calls.index(BACK)


def test_a_guard_that_begins_when_the_time_is_up_looks_all_the_same(simulated_host: SimulatedHost) -> None:
    host = tried(simulated_host, 0)
    set_answers(host, 500)
    assert host.execute(WATCH) == 1
    returned(host)


def test_a_guard_that_finds_its_probation_ended_does_nothing(simulated_host: SimulatedHost) -> None:
    host = tried(simulated_host)
    (host.run_folder / "live").unlink()
    (host.run_folder / "live").symlink_to("blue")
    assert host.execute(WATCH) == 0
    assert (host.calls, host.history()) == ([], [])


def good_run(folder: Path) -> list[str]:
    """Return the calls of a guard without a fault."""
    folder.mkdir()
    host = tried(SimulatedHost(folder))
    assert host.execute(WATCH) == 0
    return host.calls


def each_cut(folder: Path, signal: str, share: int, check: Callable[[SimulatedHost, str, int], None]) -> None:
    """Cut it after every call of this share of those of a good run, and check the host."""
    whole = good_run(folder / "whole")

    def cut(number: int) -> None:
        (folder / str(number)).mkdir()
        host = tried(SimulatedHost(folder / str(number)))
        host.cut(number, signal)
        status = host.execute(WATCH)
        host.mend()
        check(host, f"{number}: {whole[number - 1]}", status)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(cut, range(1 + share, len(whole) + 1, SHARES)))


@pytest.mark.promise(WHOLE, "SIGTERM for a guard after any call of a probation, on a simulated host", part=1)
@pytest.mark.parametrize("share", range(SHARES))
def test_told_to_end_it_gives_the_trial_up_or_keeps_what_is_committed(tmp_path: Path, share: int) -> None:
    def check(host: SimulatedHost, at: str, _: int) -> None:
        assert host.slot("live") == host.slot("current"), at
        if COMMIT in host.calls:
            assert (host.serves(), host.history()) == (NEW, [("deploy", NEW, "done")]), at
        else:
            assert (host.serves(), host.history()) == (OLD, [("deploy", NEW, "ended")]), at
        assert not list((host.run_folder / "ctl").glob("*.new-*")), at

    each_cut(tmp_path, "TERM", share, check)


def test_told_to_end_after_the_commit_it_starts_nothing_that_is_being_stopped(simulated_host: SimulatedHost) -> None:
    """Once: a commit started a service again that was stopped at the same moment."""
    host = tried(simulated_host)
    host.cut(good_run(host.folder / "whole").index(COMMIT) + 1, "TERM")
    assert host.execute(WATCH) == 129
    after = host.calls[host.calls.index(COMMIT) :]
    assert [call for call in after if call.startswith(("systemctl start", "systemctl restart"))] == []
    assert host.history() == [("deploy", NEW, "done")]


@pytest.mark.promise(WHOLE, "SIGKILL for a guard after any call of a probation, on a simulated host", part=1)
@pytest.mark.parametrize("share", range(SHARES))
def test_killed_anywhere_and_begun_again_it_finishes(tmp_path: Path, share: int) -> None:
    def check(host: SimulatedHost, at: str, status: int) -> None:
        assert status in {-9, 0}, at
        assert host.execute(WATCH) == 0, at
        assert committed(host), at

    each_cut(tmp_path, "KILL", share, check)


@pytest.mark.parametrize(
    ("left", "told"),
    [
        ("100", "the guard has ended a probation"),
        ("taken 100", "the guard of an interrupted run has cleaned up"),
        ("drain 100", "the last requests to the former release"),
    ],
)
def test_a_run_that_comes_while_it_commits_waits_for_that(host: SimulatedHost, left: str, told: str) -> None:
    """Once: a deploy that came while its host committed was refused."""
    (host.run_folder / "ctl/probation").mkdir()
    until = host.run_folder / "ctl/probation/until"
    until.write_text(f"{left}\n")
    with (host.run_folder / "lock/activate").open("w") as lock, (host.run_folder / "lock/guard").open("w") as guard:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fcntl.flock(guard, fcntl.LOCK_EX)
        deploy = steps.activate(SERVICE, Activation("deploy", NEW, OLD))

        def end() -> None:
            for held in (lock, guard):
                fcntl.flock(held, fcntl.LOCK_UN)

        assert host.execute(deploy, at="recover", do=end) == 0
    assert any(told in step for step in host.transcript.all("step"))
    assert host.serves() == NEW


@pytest.mark.parametrize(("until", "left"), [(103_000, 30), (99_000, 0), (90_000, None)])
def test_a_guard_that_is_long_overdue_counts_as_none(
    simulated_host: SimulatedHost, until: int, left: int | None
) -> None:
    """The time is 100000 hundredths of a second since boot. Once: a guard that hung counted forever as a probation, or
    as a commit about to end.
    """
    host = tried(simulated_host)
    host.unit("myapp-probation@green.service").write_text("active")
    (host.run_folder / "ctl/probation/until").write_text(f"{until}\n")
    assert host.execute(steps.facts(SERVICE, questions.releases())) == 0
    found = facts.parse(host.transcript)
    assert (found.live_release, found.probation) == (NEW, left)
