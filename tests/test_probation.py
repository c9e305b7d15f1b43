"""The time after a switch in which the host itself goes back, with no controller."""

from __future__ import annotations

import pytest

from tests.clone import make, quicken
from tests.hosts import MakeHosts
from tests.site import ROOT, Site, Watch


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    hosts = module_hosts()
    made = Site(make(tmp_path_factory.mktemp("probation"), hosts.inventory), hosts[0])
    quicken(made.clone)
    made.clone.replace("service/service.yaml", "probation: 0", "probation: 6")
    made.clone.replace("service/service.yaml", "drain: 30", "drain: 2")
    made.done("deploy")
    return made


def on_probation(site: Site) -> bool:
    """Whether the traffic goes somewhere else than a boot would lead it."""
    return site.sh("readlink /run/myapp/ctl/live") != f"{ROOT}/current"


def ended(site: Site) -> None:
    """Wait until no release is on probation."""
    site.sh("flock -w 60 /run/myapp/ctl/probation/until true")


def test_the_first_release_has_nothing_to_go_back_to_and_is_committed_at_once(site: Site) -> None:
    assert not on_probation(site)
    assert site.outcomes[-1][2] == "done"


def test_what_holds_is_committed_by_the_host_alone(site: Site) -> None:
    old, new = site.answering, site.edit()
    said = site.done("deploy").out
    assert on_probation(site), said
    assert "on probation for 6 s: shire01" in said
    assert site.answering == new
    assert site.sh(f"readlink {ROOT}/current/release").endswith(old)
    shown = site.clone.fab("status", "--json").json()["hosts"][0]
    assert (shown["release"], shown["committed"], shown["state"]) == (new, old, "probation")
    ended(site)
    site.settled()
    assert site.answering == new
    assert [one[2] for one in site.outcomes[-3:]] == ["started", "probation", "done"]


def test_what_dies_is_taken_back_by_the_host_and_status_says_so(site: Site) -> None:
    old, new = site.answering, site.edit()
    with Watch(site.machine.address) as watch:
        site.done("deploy")
        site.sh(f"systemctl kill -s KILL --kill-who=main myapp@{site.other}.service || :")
        ended(site)
        site.sh("while systemctl is-active -q 'myapp-probation@*'; do sleep 0.1; done")
    assert site.answering == old
    # A process that is killed takes with it what it was about to answer.
    assert {old, new} <= watch.seen <= {old, new, "status 502"}
    assert site.outcomes[-1] == ("deploy", new, "returned")
    told = site.clone.fab("status").out
    assert f"{new} did not hold its probation: its main process died" in told
    assert f"The host went back to {old} by itself" in told
    site.settled()
