"""Events that are no fault of a release on probation, and the work of its commit."""

from __future__ import annotations

import pytest

from tests.promises.words import HELD_BACK
from tests.support.probation_site import YAML, ProbationSite, site
from tests.support.site import Watch
from tests.support.state_check import check

__all__ = ["site"]

pytestmark = pytest.mark.promise(HELD_BACK, "workers that end as they should, a slow check: no fault", part=1)


def test_workers_that_end_as_they_should_are_not_held_against_a_release(site: ProbationSite) -> None:
    config = site.read("service/gunicorn.conf.py")
    old = site.deploy_committed(8)
    with site.changed("service/gunicorn.conf.py", config + "\nmax_requests = 15\n"):
        new = site.edit()
        site.done("deploy")
        unit = f"myapp@{site.other}.service"
        workers = f"cat /proc/{site.show(unit, 'MainPID')}/task/*/children"
        first = site.sh(workers)
        with Watch(site.machine.address) as watch:
            site.wait_until_decided()
        assert site.sh(workers) != first
        assert watch.seen == {new} != {old}
        assert check(site, new) == new


def test_a_check_that_takes_as_long_as_the_gate_allows_is_not_held_against_it(site: ProbationSite) -> None:
    """Once: the gate accepted a health check of 3 s, but the guard, which waited 2 s, took the release back."""
    site.deploy_committed(8)
    new = site.edit()
    site.set_fault(new, "takes its time")
    site.done("deploy")
    site.wait_until_decided()
    site.set_fault(new, "")
    assert check(site, new) == new


def test_further_processes_are_those_of_the_release_on_probation(site: ProbationSite) -> None:
    yaml = site.read(YAML)
    site.clone.write(YAML, yaml.replace("threads: 1}", "threads: 1}\n  clock: {command: sleep 1d}"))
    old = site.deploy_committed(15)
    former, clock = site.slot, f"myapp-clock@{site.other}.service"
    new = site.edit()
    site.done("deploy")
    assert site.on_probation
    before = site.main_of(clock)
    assert site.sh(f"readlink /proc/{before}/cwd").split("/")[5] == new != old
    site.wait_until_decided()
    assert site.show(clock, "MainPID") == before
    assert site.show(f"myapp-clock@{former}.service", "ActiveState") == "inactive"
    assert check(site, new) == new


def notify(site: ProbationSite, slot: str, word: str) -> None:
    """Tell systemd a state, as the main process of a slot may."""
    main = site.show(f"myapp@{slot}.service", "MainPID")
    site.sh(f"NOTIFY_SOCKET=/run/systemd/notify systemd-notify --pid={main} {word}=1")


def test_a_service_that_says_it_reloads_counts_as_running(site: ProbationSite) -> None:
    """Once: by one datagram a service turned off its successor's probation, as if there were no way back to it."""
    old = site.deploy_committed(8)
    notify(site, site.slot, "RELOADING")
    assert site.show(f"myapp@{site.slot}.service", "ActiveState") == "reloading"
    assert site.status_line["state"] == "healthy"
    new = site.edit()
    told = site.done("deploy").out
    assert "the service is stopped" not in told
    assert site.on_probation
    notify(site, site.other, "RELOADING")
    site.wait_until_decided()
    notify(site, site.slot, "READY")
    assert check(site, new) == new != old
