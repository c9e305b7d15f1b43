"""Each verb on a host in a probation: it reports the truth, and ends the probation only if that is its purpose."""

from __future__ import annotations

import json
import re
import time

import pytest

from tests.faults.moments import meet
from tests.promises.words import HELD_BACK
from tests.support.probation_site import NEVER, YAML, ProbationSite, site
from tests.support.site import Watch
from tests.support.state_check import check

__all__ = ["site"]

WAITS = "probation  wait"
"""What a run says that waits for the end of a probation."""

pytestmark = pytest.mark.promise(HELD_BACK, "every verb in a probation", part=1)


def test_whoever_asks_is_told_the_truth_and_disturbs_nothing(site: ProbationSite) -> None:
    old, new = site.begin_probation()
    shown = site.status_line
    assert (shown["release"], shown["committed"], shown["state"], shown["healthy"]) == (new, old, "probation", True)
    assert 0 < shown["probation_seconds"] <= NEVER
    told = site.done("status").out
    assert "PROBATION" in told
    assert re.search(rf"{new} is on probation, [0-9]+ s more; if the release fails, the host goes back to {old}", told)
    (listed,) = site.clone.done("releases", "--json").json()["hosts"]
    marks = {one["id"]: one["marks"] for one in listed["releases"]}
    assert {"live", "probation"} <= set(marks[new])
    assert "rollback" in marks[old]
    assert "bad" not in marks[new]
    assert f"{new}  ok" in site.done("health").out
    assert "the history and the host agree" in site.done("history", "--verify").out
    assert site.clone.done("plan", "--json").json()["hosts"][0]["unchanged"] is True
    site.done("plan", "--check")
    site.done("drift")
    site.done("doctor")
    assert site.on_probation


def test_who_looks_on_sees_it_go_back(site: ProbationSite) -> None:
    old, new = site.begin_probation()
    with site.clone.start("status", "--watch", "--every", "0.2", "--json") as process:
        assert process.stdout
        looks = (json.loads(line)["hosts"][0] for line in iter(process.stdout.readline, ""))
        first = next(looks)
        site.set_fault(new, "says 500")
        last = next(
            look for look in looks if look["state"] != "probation" and look["last_action"]["state"] == "returned"
        )
        process.terminate()
    assert (first["release"], first["committed"], first["state"]) == (new, old, "probation")
    assert (last["release"], last["committed"], last["probation_seconds"]) == (old, old, None)
    assert last["last_action"]["why"].startswith("the health check of the release did not hold")
    site.wait_until_decided()
    site.settled()


@pytest.mark.parametrize("verb", ["setup", "start", "maintenance"])
def test_what_is_not_about_releases_leaves_the_probation_alone(site: ProbationSite, verb: str) -> None:
    old, new = site.begin_probation()
    if verb == "maintenance":
        site.clone.done("maintenance", "on", "-H", "shire01")
        assert site.status_line["maintenance"] is not None
        site.done("health")
        assert site.on_probation
        site.clone.done("maintenance", "off", "-H", "shire01")
    else:
        site.done(verb)
    assert site.on_probation
    assert site.answering == new
    site.done("history", "--verify")
    # The rollback still works as before.
    site.set_fault(new, "says 500")
    site.wait_until_decided()
    assert check(site, old) == old


def test_a_rollback_is_back_at_once(site: ProbationSite) -> None:
    old, new = site.begin_probation()
    began = time.monotonic()
    with Watch(site.machine.address) as watch:
        said = site.done("rollback").out
    took = time.monotonic() - began
    assert f"the probation of {new} is ended: slot {site.slot} has the traffic" in said
    assert f"ROLLED BACK  {new} -> {old}  " in said
    assert watch.seen <= {new, old}
    assert check(site, old) == old
    site.settled()
    assert [one[1:] for one in site.outcomes[-3:]] == [(new, "ended"), (old, "started"), (old, "done")]
    # Nothing is started or checked: the old slot ran throughout.
    assert "start: slot" not in said
    assert took < 30
    site.done("history", "--verify")


def test_the_same_content_needs_nothing_and_wait_waits_for_it(site: ProbationSite) -> None:
    """Once: --wait did not wait for a release that was on probation already."""
    old, new = site.begin_probation()
    said = site.done("deploy").out
    assert "UNCHANGED" in said
    assert f"release {new} serves already, on probation" in said
    assert site.on_probation
    ended = meet(site.clone, ("deploy", "-H", "shire01", "--wait"), WAITS, lambda _: site.end_probation())
    assert not site.on_probation
    assert f"probation committed: {new}" in " ".join(ended.out.split())
    site.wait_until_decided()
    assert check(site, new) == new != old
    assert "on probation" not in site.done("deploy", "--wait").out


def test_waiting_for_what_is_on_probation_already_tells_its_failure(site: ProbationSite) -> None:
    old, new = site.begin_probation()
    with site.clone.start("deploy", "-H", "shire01", "--wait") as process:
        assert process.stdout
        assert any("probation wait" in " ".join(line.split()) for line in iter(process.stdout.readline, ""))
        site.set_fault(new, "says 500")
        rest = process.stdout.read()
    assert process.returncode == 1
    assert (
        f"release {new} did not hold its probation: the health check of the release did not hold: answered 500" in rest
    )
    assert "The host went back by itself" in rest
    assert f"serves now: release {old}" in rest
    assert len([line for line in rest.splitlines() if line.startswith("    | ")]) <= 20
    site.require_returned(old, new)


def test_other_content_is_tried_against_the_committed_release(site: ProbationSite) -> None:
    old, new = site.begin_probation()
    other = site.edit()
    assert f"deploy {new} -> {other}, because" in site.fab("plan").out
    said = site.done("deploy").out
    assert f"the probation of {new} is ended" in said
    assert f"DEPLOYED  {new} -> {other}  " in said
    assert (site.answering, site.on_probation) == (other, True)
    assert [one[1:] for one in site.outcomes[-3:]] == [(new, "ended"), (other, "started"), (other, "probation")]
    site.set_fault(other, "says 500")
    site.require_returned(old, other)


def test_the_committed_content_is_back_at_once(site: ProbationSite) -> None:
    site.deploy_committed(NEVER)
    # On a stopped service a release is committed at once, whatever its probation.
    site.done("stop")
    old = site.deploy()
    text = site.read("service/under_test.py")
    new = site.edit()
    site.done("deploy")
    assert site.on_probation
    site.clone.write("service/under_test.py", text)
    said = site.done("deploy").out
    assert f"release {new} serves and is not committed, {old} is" in said
    assert "start: slot" not in said
    assert check(site, old) == old
    site.settled()


def test_a_restart_waits_for_the_end_and_is_tried_itself(site: ProbationSite) -> None:
    _, new = site.begin_probation()
    pid = site.show(f"myapp@{site.other}.service", "MainPID")
    ended = meet(site.clone, ("restart", "-H", "shire01"), WAITS, lambda _: site.end_probation())
    assert ended.status == 0, ended.out
    assert site.answering == new
    assert site.show(f"myapp@{site.other}.service", "MainPID") != pid
    assert site.on_probation
    site.end_probation()
    site.wait_until_decided()
    assert check(site, new) == new
    assert site.outcomes[-1] == ("restart", new, "done")


def test_a_stop_gives_it_up_and_a_start_brings_the_committed_one(site: ProbationSite) -> None:
    """Once: a probation ended by a stop or a reboot left no outcome, and `history --verify` reported a fault."""
    old, new = site.begin_probation()
    site.done("stop")
    assert site.status_line["state"] == "stopped"
    site.done("history", "--verify")
    said = site.done("start").out
    assert old in said
    assert check(site, old) == old
    site.settled()
    assert (new, "ended") in [one[1:] for one in site.outcomes]
    site.done("history", "--verify")


def test_on_a_stopped_service_it_is_committed_at_once_and_that_is_said(site: ProbationSite) -> None:
    site.deploy_committed(NEVER)
    site.done("stop")
    new = site.edit()
    said = site.done("deploy").out
    assert "there is no former release that is up to go back to, so this run commits at once" in said
    assert "on probation for" not in said
    assert check(site, new) == new
    site.settled()


def hooked(site: ProbationSite) -> None:
    """Add a hook to deploys; it prints its release."""
    if "hooks:" not in site.read(YAML):
        site.clone.write("service/mark.py", "import os\nprint('hook of', os.environ['RELEASE'])\n")
        site.clone.write(YAML, site.read(YAML) + "hooks: {before_activate: python mark.py}\n")


def test_a_hook_waits_for_the_end_of_the_probation_before(site: ProbationSite) -> None:
    """Once: a deploy planned in a probation and begun after its end blamed another run for the change."""
    _, new = site.begin_probation()
    hooked(site)
    other = site.edit()
    said = meet(site.clone, ("deploy", "-H", "shire01"), WAITS, lambda _: site.end_probation()).out
    assert said.index(WAITS) < said.index(f"hook of {other}")
    assert (new, "done") in [one[1:] for one in site.outcomes]
    assert f"{new} -> {other}" in said
    assert site.answering == other
    site.end_probation()
    site.wait_until_decided()


def test_a_run_whose_program_is_killed_before_its_probation_is_taken_back_by_its_guard(site: ProbationSite) -> None:
    # A finished hook proves nothing about a release whose link is lost.
    hooked(site)
    old = site.deploy_committed(NEVER)
    new = site.edit()
    site.clone.environment["FAILPOINT"] = "activate.switch=die"
    try:
        assert site.fab("deploy").status == 1
    finally:
        del site.clone.environment["FAILPOINT"]
    site.wait_until_decided()
    assert check(site, old) == old
    site.settled()
    assert site.outcomes[-1][1:] == (new, "failed")
    assert site.history[-1]["why"] == "the run was killed on this host"


def test_a_release_that_nobody_watches_is_called_so_and_a_rollback_leaves_it(site: ProbationSite) -> None:
    """Once: a link that was lost right after the switch was taken for a success if a hook had been done; from an
    unwatched release, a rollback went back by two.
    """
    new, old = site.deploy_committed(), site.deploy_committed(NEVER)
    other = site.other
    site.sh(f"touch /run/myapp/try/{other}; systemctl start myapp@{other}.service")
    site.sh(f"systemctl start myapp-live@{other}.service")
    assert site.answering == new
    told = site.clone.fab("status")
    assert told.status == 1
    assert "UNCOMMITTED" in told.out
    assert f"{new} serves, but no guard watches it; a boot starts {old}" in told.out
    finished = [one for one in site.fab("rollback", "--json").lines() if one["event"] == "finished"]
    assert [(one["before"], one["release"]) for one in finished] == [(new, old)]
    assert check(site, old) == old
    site.settled()


def test_a_removal_ends_it_and_leaves_nothing(site: ProbationSite) -> None:
    site.begin_probation()
    site.done("remove", "--yes", "--data")
    assert site.machine.sh("ls -d /opt/apps/myapp /run/myapp /etc/myapp").stdout == b""
    assert site.sh("systemctl --failed --plain --no-legend") == ""
    said = site.done("deploy").out
    assert "there is no former release to go back to, so this run commits at once" in said
    site.settled()
