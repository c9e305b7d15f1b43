"""The probation after a switch, in which the host itself rolls back, without a controller."""

from __future__ import annotations

import signal

import pytest

from tests.faults.moments import meet
from tests.promises.words import HELD_BACK, WHOLE
from tests.support.probation_site import NEVER, ProbationSite, site
from tests.support.site import Watch
from tests.support.state_check import check

__all__ = ["site"]


def on_host(command: str) -> str:
    """Return the command with the slot on probation as $live."""
    return f"live=$(basename $(readlink /run/myapp/live)); unit=myapp@$live.service; {command}"


MAIN = "$(systemctl show -p MainPID --value $unit)"
# The fault of the release on probation, a word for its application or a command on its host; and the reason given.
FAULTS = {
    "its main process is killed": (
        on_host("systemctl kill -s KILL --kill-who=main $unit"),
        "the main process of the release died",
    ),
    "a worker is killed": (on_host(f"kill -9 $(pgrep -P {MAIN} | head -n 1)"), "a worker died"),
    "it is stopped by hand": (
        on_host("systemctl stop $unit myapp@$live.socket"),
        "the main process of the release died, or was",
    ),
    "it is restarted by hand": (
        on_host("systemctl restart $unit || :"),
        "the main process of the release died, or was stopped",
    ),
    "its health check says 500": ("says 500", "the health check of the release did not hold: answered 500, not 200"),
    "its health check is slow": ("is slow", "the health check of the release did not hold: no answer: curl: (28)"),
    "its health check hangs": ("hangs", "the health check of the release did not hold: no answer: curl: (28)"),
    "its health check flaps": ("flaps", "the health check of the release did not hold: answered 500, not 200"),
    "it answers for another release": (
        "is another",
        "the health check of the release did not hold: answered for another release",
    ),
    "all its threads are blocked": (
        on_host(
            "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do"
            " curl -s --unix-socket /run/myapp/$live.sock http://myapp.example/hangs >/dev/null 2>&1 & done"
        ),
        "the health check of the release did not hold: no answer: curl: (28)",
    ),
}


@pytest.mark.promise(HELD_BACK, "what serves dies, fails or hangs in its probation", part=1)
@pytest.mark.parametrize("fault", FAULTS)
def test_what_fails_is_taken_back_by_the_host_alone(site: ProbationSite, fault: str) -> None:
    old, new = site.begin_probation()
    done, why = FAULTS[fault]
    with Watch(site.machine.address) as watch:
        if " $" in done or "=$" in done:
            site.sh(done)
        else:
            site.set_fault(new, done)
        # The host goes back long before the end of the probation.
        assert why in site.require_returned(old, new)
    # A release that dies or lies loses the answers under way; after the rollback that is over.
    assert watch.answers[-1] == old
    assert {one for one in watch.seen if "release" not in one} <= {old, new, "0123456789ab", "status 500", "status 502"}


@pytest.mark.promise(HELD_BACK, "the controller is gone since the switch", part=1)
@pytest.mark.parametrize("line", ["activate  switch", "activate  probation"])
def test_a_controller_that_dies_right_after_the_switch_is_not_needed(site: ProbationSite, line: str) -> None:
    old = site.deploy_committed(NEVER)
    new = site.edit()
    with site.clone.start("deploy", "-H", "shire01") as process:
        assert process.stdout
        assert any(line in text for text in iter(process.stdout.readline, ""))
        process.send_signal(signal.SIGKILL)
    site.sh("flock -w 60 /run/myapp/lock/activate true")
    if site.on_probation:
        site.set_fault(new, "says 500")
        site.wait_until_decided()
    # Cut before the guard began to watch, the switch was undone by its own run.
    assert check(site, old) == old
    assert site.outcomes[-1][1:] in {(new, "returned"), (new, "failed")}
    site.settled()


@pytest.mark.promise(HELD_BACK, "the former slot was stopped by hand meanwhile")
def test_a_former_slot_that_was_stopped_is_started_before_the_traffic_goes_back(site: ProbationSite) -> None:
    """Once: a host went back to a slot that had been stopped by hand, and its front door did not answer."""
    old, new = site.begin_probation()
    site.sh(f"systemctl stop myapp@{site.slot}.service myapp@{site.slot}.socket")
    with Watch(site.machine.address) as watch:
        site.set_fault(new, "says 500")
        site.require_returned(old, new)
    assert watch.answers[-1] == old
    assert watch.seen <= {new, old, "status 500"}


def test_traffic_that_cannot_go_back_stays_with_what_answers_and_the_run_says_so(site: ProbationSite) -> None:
    _, new = site.begin_probation()
    slot, back = site.other, f"myapp-live@{site.slot}.service"

    def fail(_: object) -> None:
        site.sh(f"systemctl mask --runtime {back}; systemctl daemon-reload")
        # The front door answers throughout.
        site.sh(on_host(f"kill -9 $(pgrep -P {MAIN} | head -n 1)"))

    ended = meet(site.clone, ("deploy", "-H", "shire01", "--wait"), "probation  wait", fail)
    assert ended.status == 1
    told = f"release {new} did not hold its probation: a worker died; the traffic could not go back, and stays with"
    assert f"{told} slot {slot}" in ended.both
    assert site.outcomes[-1] == ("deploy", new, "failed")
    assert site.status_line["state"] == "uncommitted"
    # If it dies, systemd restarts it.
    site.kill_until_restarted(f"myapp@{slot}.service")
    assert site.answering == new
    site.sh(f"systemctl unmask --runtime {back}; systemctl daemon-reload")
    site.deploy_committed()
    site.settled()


@pytest.mark.promise(HELD_BACK, "the guard itself is killed", part=1)
@pytest.mark.parametrize("times", [1, 8])
def test_a_guard_that_is_killed_goes_on(site: ProbationSite, times: int) -> None:
    old, new = site.begin_probation()
    for _ in range(times):
        site.kill_until_restarted(f"myapp-probation@{site.other}.service")
    assert site.status_line["state"] == "probation"
    site.set_fault(new, "says 500")
    site.require_returned(old, new)


@pytest.mark.promise(WHOLE, "the guard of a probation is killed at a step", part=1)
@pytest.mark.parametrize("step", ["watch", "commit", "committed", "recorded", "processes", "drained"])
def test_a_guard_that_is_killed_at_the_commit_finishes_it(site: ProbationSite, step: str) -> None:
    old = site.deploy_committed(3)
    new = site.edit()
    began = site.sh("date +%s").strip()
    # The run asks for the outcome while systemd waits to start the guard again.
    slow = "/run/systemd/system/myapp-probation@.service.d"
    site.sh(f"mkdir -p {slow} && printf '[Service]\\nRestartSec=3\\n' >{slow}/slow.conf && systemctl daemon-reload")
    site.clone.environment["FAILPOINT"] = f"probation.{step}=die"
    try:
        said = site.done("deploy", "--wait").out
    finally:
        del site.clone.environment["FAILPOINT"]
        site.sh(f"rm -r {slow} && systemctl daemon-reload")
    assert f"probation committed: {new}" in " ".join(said.split()), said
    site.wait_until_decided()
    assert (
        site.sh(
            f"journalctl --sync; journalctl -q -u 'myapp-probation@*' --since @{began} -o cat | grep -c 'status=9/KILL'"
        )
        != "0"
    )
    assert check(site, new) == new != old
    site.settled()
    assert site.outcomes[-1] == ("deploy", new, "done")
    assert "UNCHANGED" in site.done("deploy").out


@pytest.mark.promise(HELD_BACK, "a power cut or a reboot in its probation", part=1)
@pytest.mark.parametrize("how", ["power cut", "reboot"])
def test_a_boot_is_the_way_back(site: ProbationSite, how: str) -> None:
    old, new = site.begin_probation()
    if how == "reboot":
        site.machine.reboot()
    else:
        site.machine.power_cut()
        site.machine.boot()
    assert check(site, old) == old
    site.settled()
    shown = site.status_line
    assert (shown["release"], shown["committed"], shown["state"]) == (old, old, "healthy")
    # At a power cut no program could write the outcome.
    assert site.outcomes[-1][1:] == (new, "ended" if how == "reboot" else "probation")
    if how == "reboot":
        assert f"the probation of {new} was ended before its time; {old} serves" in site.clone.fab("status").out
        site.done("history", "--verify")
    site.probation(0)
    site.done("deploy")
    site.settled()


@pytest.mark.promise(HELD_BACK, "an operator's own systemctl in its probation", part=1)
@pytest.mark.parametrize("verb", ["restart", "stop"])
def test_systemctl_means_the_committed_release(site: ProbationSite, verb: str) -> None:
    old, new = site.begin_probation()
    site.sh(f"systemctl {verb} myapp")
    if verb == "stop":
        site.sh("while systemctl is-active -q 'myapp@*'; do sleep 0.1; done; systemctl start myapp")
    site.sh("while [ $(systemctl is-active 'myapp@*.service' | grep -c active) != 1 ]; do sleep 0.1; done")
    assert check(site, old) == old
    assert site.outcomes[-1][1:] == (new, "ended")
    site.settled()
    site.done("history", "--verify")
