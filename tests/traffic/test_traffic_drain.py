"""Requests under way when a release is replaced: they may take as long as `drain` allows, and no longer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.promises.words import NO_LOSS
from tests.support.clone import make
from tests.support.hosts import MakeHosts
from tests.support.site import Site
from tests.traffic import service as traffic
from tests.traffic.load import QUICK, Load, Shot, sent
from tests.traffic.load_history import History

LIMIT, LONGER = 3, 16
RATE = 40


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """One host for both."""
    return traffic.deployed(make(tmp_path_factory.mktemp("site")), module_hosts(), drain=LIMIT)


def turn(seconds: float) -> tuple[Shot, ...]:
    """One request in twenty takes this many seconds."""
    return (Shot("long", f"/slow?seconds={seconds}"), *[QUICK] * 19)


def deployed_under(site: Site, seconds: float, log: Path) -> tuple[History, str, str, str]:
    """Deploy during requests of that length; return history, old and new release, and the host's messages."""
    address, old = site.machine.address, site.answering
    began = site.sh("date +%s")
    new = site.edit()
    with sent(Load([address], RATE, turn(seconds), streams=0), log) as load:
        load.quiet(1)
        with load.during("deploy", {address: (old, new)}):
            site.done("deploy")
            site.settled()
    return (
        load.history,
        old,
        new,
        site.sh(f"journalctl --sync; journalctl -q -o cat -t myapp-probation --since @{began}"),
    )


@pytest.mark.promise(NO_LOSS, "requests that take as long as the drain limit")
def test_what_ends_within_the_drain_limit_is_answered(site: Site, tmp_path: Path) -> None:
    history, old, new, told = deployed_under(site, LIMIT - 0.5, tmp_path / "log")
    assert history.faults() == []
    # Some began well before the new release's first answer, and ended well after.
    took = min(one.end for one in history.of("quick") if one.release == new)
    across = [one for one in history.of("long") if one.release == old and one.start < took < one.end]
    assert max(one.end for one in across) > took + LIMIT - 1.5
    assert "cut off" not in told


@pytest.mark.promise("What outlasts the drain limit is cut, counted and logged", "requests longer than the limit")
def test_what_outlasts_the_drain_limit_is_cut_with_a_status_that_is_logged(site: Site, tmp_path: Path) -> None:
    """Once: of the requests that a drain had cut, only those of the last worker were counted."""
    history, _, new, told = deployed_under(site, LONGER, tmp_path / "log")
    cut = history.lost
    assert {(one.kind, one.status) for one in cut} == {("long", 502)}
    assert history.tally()["quick"][0] == 0
    took = min(one.end for one in history.of("quick") if one.release == new)
    # gunicorn waits for two seconds more than the limit; the rest is for a busy machine.
    assert all(LIMIT < one.end - took < LIMIT + 8 for one in cut)
    assert all(one.start < took for one in cut)
    logged = site.sh('journalctl --sync; journalctl -t myapp_nginx -o cat | grep -c \'"path":"/slow","status":"502"\'')
    assert int(logged) == len(cut) > 0
    (counted,) = re.findall(rf"(\d+) requests were still under way after {LIMIT} s, and were cut off", told)
    assert int(counted) == len(cut)
