"""Stop and start in the host's program."""

from __future__ import annotations

import fcntl
import json
import threading
import time

import pytest

from tasks.engine.fleet import step_errors
from tasks.engine.host import layout, steps
from tasks.engine.host.steps import HostStep
from tests.promises.words import AGAIN
from tests.support.simulated_host import NEW, OLD, RUN, SERVICE, SHARES, SimulatedHost, at_work, host, simulated_host

__all__ = ["host", "simulated_host"]


@pytest.mark.parametrize("step", [steps.stop(SERVICE, disable=True), steps.start(SERVICE)])
def test_neither_begins_in_the_middle_of_somebodys_switch(host: SimulatedHost, step: HostStep) -> None:
    """Once: stop began in the middle of another run's switch."""
    holder = {"action": "deploy", "release": NEW, "who": {"user": "you"}}
    with at_work(host, holder):
        assert host.execute(step) == 75
    assert json.loads(host.transcript.last("busy") or "") == holder
    assert (host.calls, host.history()) == ([], [])


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ({"action": "restore", "run": "another"}, 75),
        ({"action": "restore", "run": RUN.id}, 0),
        ({"action": "deploy", "run": "another"}, 0),
        ("[" * 900, 0),
    ],
)
def test_start_waits_for_no_run_but_begins_in_no_restore_of_another(
    host: SimulatedHost, line: object, status: int
) -> None:
    """Once: `fab start` of a second controller had the release write into data that was half replaced."""
    with (host.run_folder / "lock/run").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(f"{json.dumps(line)}\n")
        lock.flush()
        assert host.execute(steps.start(SERVICE)) == status
    assert (host.history() == []) == (status == 75)


def test_stop_waits_for_the_queues_and_takes_everything_down_at_once(host: SimulatedHost) -> None:
    (host.folder / "queues/blue.sock").write_text("2\n0\n")
    assert host.execute(steps.stop(SERVICE, disable=False)) == 0
    stops = [call for call in host.calls if call.startswith("systemctl stop")]
    assert stops == [
        "systemctl stop " + " ".join(layout.guards(SERVICE)),
        "systemctl stop " + " ".join(layout.stopped(SERVICE)),
        f"systemctl stop {layout.run_slices(SERVICE)[0]}",
    ]
    assert host.calls.count("ss blue.sock") == 2
    assert (host.running(), host.slot("current")) == (set(), "blue")
    assert host.history() == [("stop", OLD, "started"), ("stop", OLD, "done")]
    assert not (host.folder / "refused").exists()


def test_rules_of_an_older_version_stop_the_service_and_name_the_commands_that_stay(host: SimulatedHost) -> None:
    without_rule(host, f"stop {layout.run_slices(SERVICE)[0]}")
    host.unit("myapp-run@7-1-1000.service").write_text("active")
    host.unit("myapp-run@8-1-1000.service").write_text("inactive")
    assert host.execute(steps.stop(SERVICE, disable=False)) == 0
    assert host.running() == set()
    warning = host.transcript.last("warning") or ""
    assert warning.startswith("myapp-run@7-1-1000.service (for ")
    assert "fab setup writes the rule" in warning
    assert "run@8" not in warning


def test_stop_and_disable_keeps_a_boot_from_starting_it(host: SimulatedHost) -> None:
    assert host.execute(steps.stop(SERVICE, disable=True)) == 0
    assert host.calls[-1] == "systemctl disable " + " ".join(layout.enabled(SERVICE))


STOP, START = steps.stop(SERVICE, disable=True), steps.start(SERVICE)


def without_rule(host: SimulatedHost, words: str) -> None:
    """Remove that command from sudo's rules."""
    rules = (host.folder / "rules").read_text().splitlines()
    left = [rule for rule in rules if not rule.startswith(f"systemctl {words}")]
    assert len(left) < len(rules)
    (host.folder / "rules").write_text("".join(f"{rule}\n" for rule in left))


@pytest.mark.parametrize(("step", "told"), [(STOP, "there is nothing to stop"), (START, "deploy one")])
@pytest.mark.parametrize("there", [True, False])
def test_without_a_committed_release_both_are_refused(
    simulated_host: SimulatedHost, step: HostStep, told: str, there: bool
) -> None:
    simulated_host.release(NEW)
    if not there:
        # Like a host that was never set up.
        simulated_host.root.rename(simulated_host.folder / "elsewhere")
    assert simulated_host.execute(step) == 1
    assert simulated_host.transcript.last("refused") == f"no release is committed on this host: {told}"
    assert simulated_host.calls == []


@pytest.mark.parametrize(
    ("step", "steps"),
    [(STOP, ("stop.live", "stop.stop", "stop.stopped")), (START, ("start.enable", "start.start", "start.started"))],
)
def test_broken_at_a_step_the_same_again_does_it(host: SimulatedHost, step: HostStep, steps: tuple[str, ...]) -> None:
    for point in steps:
        for action, status in (("fail", 1), ("die", -9)):
            host.failpoint = f"{point}={action}"
            assert host.execute(step) == status
            if status == 1:
                assert host.transcript.last("refused") == f"failpoint {point}"
        host.failpoint = ""
        assert host.execute(step) == 0
        assert host.running() == (set() if step is STOP else {"blue"})
        assert host.execute(START) == 0


@pytest.mark.parametrize("step", [STOP, START])
def test_either_waits_for_the_last_requests_to_the_former_release(host: SimulatedHost, step: HostStep) -> None:
    (host.run_folder / "ctl/probation").mkdir()
    (host.run_folder / "ctl/probation/until").write_text("drain 100000\n")
    with (host.run_folder / "lock/guard").open("w") as guard, (host.run_folder / "lock/activate").open("w") as activate:
        fcntl.flock(guard, fcntl.LOCK_EX)
        fcntl.flock(activate, fcntl.LOCK_EX)
        waiting = threading.Thread(target=host.execute, args=(step,))
        waiting.start()
        time.sleep(1)
        assert host.history() == []
        fcntl.flock(activate, fcntl.LOCK_UN)
        waiting.join()
    assert host.transcript.exit == 0
    told = "recover waiting until the last requests to the former release have ended"
    assert told in host.transcript.all("step")


def test_stop_gives_up_what_is_on_probation(host: SimulatedHost) -> None:
    host.unit("myapp-probation@green.service").write_text("active")
    (host.run_folder / "live").unlink()
    (host.run_folder / "live").symlink_to("green")
    assert host.execute(STOP) == 0
    moves = [call for call in host.calls if "probation@" in call or "live@" in call]
    assert moves[:2] == [
        "systemctl stop " + " ".join(layout.guards(SERVICE)),
        "systemctl start myapp-live@blue.service",
    ]
    assert host.slot("live") == "blue"


@pytest.mark.parametrize(
    ("rule", "told", "ended"),
    [
        ("stop myapp-probation@blue", "the guard of the release on probation cannot be stopped", {"blue"}),
        ("stop myapp.service", "the service cannot be stopped", {"blue"}),
        ("disable", "the service is stopped, and a boot would start it: it cannot be disabled", set()),
    ],
)
def test_a_stop_that_sudo_refuses_says_what_was_not_done(
    host: SimulatedHost, rule: str, told: str, ended: set[str]
) -> None:
    without_rule(host, rule)
    assert host.execute(STOP) == 1
    assert host.transcript.last("failed") == told
    assert any("a password is required" in line for line in host.transcript.tail)
    assert host.running() == ended
    assert ("stop", OLD, "done") not in host.history()


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("enable", "the service cannot be enabled, so a boot would not start it"),
        ("start myapp.service", "myapp.service did not start"),
        ("start myapp@blue.service", "myapp@blue.service did not start"),
    ],
)
def test_a_start_that_sudo_refuses_says_what_was_not_done(host: SimulatedHost, rule: str, told: str) -> None:
    assert host.execute(STOP) == 0
    without_rule(host, rule)
    assert host.execute(START) == 1
    assert host.transcript.last("failed") == told
    # The journal has only former starts.
    assert host.transcript.all("journal") == ()
    assert ("start", OLD, "done") not in host.history()


def test_a_release_that_puts_off_its_start_for_ever_is_ended(host: SimulatedHost) -> None:
    assert host.execute(STOP) == 0
    (host.folder / "hang-myapp@blue.service").touch()
    (host.folder / "journal").write_text("still busy\n")
    told = json.loads(START.text)
    told["health"]["start_timeout"] = -4
    assert host.execute(START._replace(text=json.dumps(told))) == 1
    assert f"release {OLD} was not ready within" in (host.transcript.last("failed") or "")
    assert host.transcript.all("journal") == ("still busy",)
    assert "systemctl kill -s KILL myapp@blue.service" in host.calls
    assert host.history()[-1] == ("start", OLD, "failed")


def test_a_release_is_held_to_its_own_check(host: SimulatedHost) -> None:
    (host.root / f"releases/{OLD}/health").write_text("/own\n204\n")
    (host.folder / "answers" / OLD).write_text("204")
    assert host.execute(START) == 0
    assert "curl http://myapp.example/own by run/myapp/blue.sock" in host.calls


def test_start_brings_back_the_committed_release_and_waits_for_its_check(host: SimulatedHost) -> None:
    assert host.execute(steps.stop(SERVICE, disable=True)) == 0
    host.forget()
    assert host.execute(steps.start(SERVICE)) == 0
    assert (host.serves(), host.running()) == (OLD, {"blue"})
    assert "systemctl enable " + " ".join(layout.enabled(SERVICE)) in host.calls
    assert host.history()[-2:] == [("start", OLD, "started"), ("start", OLD, "done")]
    assert not (host.folder / "refused").exists()


def test_a_release_that_does_not_answer_after_start_is_told_with_its_journal(host: SimulatedHost) -> None:
    (host.folder / "answers" / OLD).write_text("503")
    (host.folder / "journal").write_text("no database\n")
    assert host.execute(steps.start(SERVICE)) == 1
    shown = step_errors.explain(steps.start(SERVICE), host.transcript, "shire01", "deploy")
    assert (host.transcript.last("failed"), host.transcript.last("refused")) == (shown.message, None)
    assert shown.message.startswith(f"release {OLD} is started, and its health check does not hold: answered 503")
    assert (shown.detail, shown.next) == (("app: no database",), "fab doctor -H shire01")
    assert host.history()[-1] == ("start", OLD, "failed")


@pytest.mark.promise(AGAIN, "a signal after any call of a stop or a start, on a simulated host", part=4)
@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("sent", ["TERM", "KILL"])
@pytest.mark.parametrize("step", [STOP, START])
def test_cut_by_a_signal_anywhere_the_same_again_does_it(
    host: SimulatedHost, step: HostStep, sent: str, share: int
) -> None:
    assert host.execute(step) == 0
    calls = len(host.calls)
    for call in range(1 + share, calls + 1, SHARES):
        assert host.execute(STOP if step is START else START) == 0
        host.forget()
        host.cut(call, sent)
        # A stop that has ended by then cannot be cut.
        assert host.execute(step) in {-9 if sent == "KILL" else 129, 0}
        host.mend()
        host.forget()
        assert host.execute(step) == 0
        assert host.running() == (set() if step is STOP else {"blue"})
        assert host.history()[-1] == (step.name, OLD, "done")
