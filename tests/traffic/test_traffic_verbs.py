"""Requests of every kind across each verb: none is lost or slowed, and the right release answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.promises.words import NO_LOSS
from tests.support.clone import make
from tests.support.hosts import Hosts, MakeHosts
from tests.support.site import Site
from tests.support.suites import suites
from tests.traffic import service as traffic
from tests.traffic.load import Load, require_no_loss, sent
from tests.traffic.load_history import slower

QUIET = 3.0
SLOWER = 1.2
"""The limit for the 99th percentile, relative to a host beside on which nothing happens."""
SUITES = tuple(dict.fromkeys((None, *suites())))
ROUNDS = 3


@pytest.fixture(scope="module", params=SUITES, ids=str)
def two(module_hosts: MakeHosts, request: pytest.FixtureRequest) -> Hosts:
    """Two hosts of each suite, for this module: one under test, and one at rest."""
    return module_hosts(2, request.param)


@pytest.fixture(scope="module")
def site(two: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The first of them; both serve."""
    return traffic.deployed(make(tmp_path_factory.mktemp("site")), two)


@pytest.mark.promise(NO_LOSS, "deploy, rollback and restart", part=1)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_switch_loses_no_request_and_slows_none(
    site: Site, two: Hosts, number: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    address, resting, old = two[0].address, two[1].address, site.answering
    new = site.edit()
    with sent(Load([address, resting], kept=25), tmp_path / f"log{number}") as load:
        load.quiet(QUIET)
        traffic.switches(load, site, old, new)
        load.quiet(QUIET)
    require_no_loss(load, request, resting=resting)
    assert {one.release for one in load.history.of("stream") if one.host == address} == {old, new}
    assert slower(load.history, ("deploy", "rollback", "restart"), resting=resting) < SLOWER
