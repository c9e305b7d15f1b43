"""Rollback, restart, a reboot, a power cut and a stopped service: a release on the host goes live again."""

from __future__ import annotations

import shlex

import pytest

from tests.promises.words import WHOLE
from tests.support.clone import make, quicken
from tests.support.hosts import MakeHosts
from tests.support.site import ROOT, Site, Watch


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    hosts = module_hosts()
    made = Site(make(tmp_path_factory.mktemp("rollback"), hosts.inventory), hosts[0])
    quicken(made.clone)
    made.deploy()
    return made


def test_a_rollback_brings_the_former_release_back_with_nothing_sent_or_built(site: Site) -> None:
    former, latter = site.deploy(), site.deploy()
    look = f"cd {ROOT} && find releases venvs wheels -printf '%p %i %T@\\n' | sort"
    before = site.sh(look)
    with Watch(site.machine.address) as watch:
        site.done("rollback")
    assert site.answering == former
    assert site.sh(look) == before
    assert watch.seen == {former, latter}
    assert site.outcomes[-2:] == [("rollback", former, "started"), ("rollback", former, "done")]
    site.settled()


def test_every_rollback_goes_one_release_further_back(site: Site) -> None:
    first, second, _ = site.deploy(), site.deploy(), site.deploy()
    site.done("rollback")
    assert site.answering == second
    site.done("rollback")
    assert site.answering == first


def test_a_deploy_after_a_rollback_goes_back_to_what_served_before_it(site: Site) -> None:
    first, dropped = site.deploy(), site.deploy()
    site.done("rollback")
    site.deploy()
    site.done("rollback")
    assert (site.answering, dropped in site.releases) == (first, True)


def test_a_rollback_to_the_beginning_of_an_id_or_to_nothing_that_is_there(site: Site) -> None:
    wanted, _, latest = site.deploy(), site.deploy(), site.deploy()
    unknown = site.fab("rollback", "--to", "zzz")
    assert unknown.status == 1
    assert "release zzz is not on this host" in unknown.out
    twin = f"{wanted[:-1]}{'0' if wanted[-1] != '0' else '1'}"
    site.sh(f"cp -a {ROOT}/releases/{wanted} {ROOT}/releases/{twin}")
    site.sh(f"sed -i s/{wanted}/{twin}/ {ROOT}/releases/{twin}/release.json")
    ambiguous = site.fab("rollback", "--to", wanted[:-1])
    site.sh(f"rm -r {ROOT}/releases/{twin}")
    assert ambiguous.status == 1
    assert "fits more than one release" in ambiguous.out
    assert site.answering == latest
    site.done("rollback", "--to", wanted[:8])
    assert site.answering == wanted


def test_a_rollback_asks_the_former_release_for_its_own_health_check(site: Site) -> None:
    former = site.deploy()
    text = site.read("service/service.yaml").replace("path: /readyz", "path: /newz")
    app = site.read("service/app/health.py").replace("/readyz", "/newz")
    with site.changed("service/service.yaml", text), site.changed("service/app/health.py", app):
        site.deploy()
        site.done("rollback")
        assert site.answering == former
        assert site.done("health").status == 0


def test_a_restart_puts_the_same_release_into_the_other_slot_with_new_processes(site: Site) -> None:
    release, slot, pids = site.answering, site.slot, set(site.sh("pgrep -u myapp").split())
    with Watch(site.machine.address) as watch:
        site.done("restart")
    assert (site.answering, site.other) == (release, slot)
    assert not pids & set(site.sh("pgrep -u myapp").split())
    assert watch.seen == {release}
    assert site.outcomes[-2:] == [("restart", release, "started"), ("restart", release, "done")]
    site.settled()


@pytest.mark.promise(WHOLE, "reboot or power cut between runs", part=1)
@pytest.mark.parametrize("way", ["reboot", "power cut"])
def test_the_release_answers_after_a_boot_without_a_controller(site: Site, way: str) -> None:
    release, slot = site.deploy(), site.slot
    if way == "reboot":
        site.machine.reboot()
    else:
        site.machine.power_cut()
        site.machine.boot()
    assert site.answering == release
    assert site.slot == slot
    site.settled()
    assert "UNCHANGED" in site.done("deploy").out


def test_a_deploy_starts_a_service_that_was_stopped_and_says_that_it_was(site: Site) -> None:
    release = site.deploy()
    site.done("stop")
    ended = site.done("deploy")
    assert "or the service is stopped" in ended.out
    assert site.answering == release
    site.settled()
    site.machine.reboot()
    assert site.answering == release


@pytest.mark.further("tests/hosts/service/test_other_users.py::test_only_the_services_own_processes_keep_a_release")
def test_a_release_whose_last_processes_still_run_is_not_pruned(site: Site) -> None:
    first = site.deploy()
    # A worker started by hand.
    by_hand = shlex.quote(f"exec {ROOT}/releases/{first}/venv/bin/python -c 'import time; time.sleep(600)'")
    site.sh(f"systemd-run -q --unit by-hand --uid myapp sh -c {by_hand}")
    try:
        with site.changed("service/service.yaml", site.read("service/service.yaml").replace("keep: 5", "keep: 2")):
            for _ in range(2):
                site.deploy()
            assert first in site.releases
            site.sh("systemctl stop by-hand")
            site.deploy()
            assert first not in site.releases
    finally:
        site.sh("systemctl stop by-hand || true")
