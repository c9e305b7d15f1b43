"""Workers with one request at a time: no switch loses a request that waits in the socket."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.promises.words import NO_LOSS
from tests.support.clone import make
from tests.support.hosts import MakeHosts
from tests.support.site import Site
from tests.traffic import service as traffic
from tests.traffic.load import QUICK, Load, Shot, sent

RATE = 40
TURN = (Shot("long", "/slow?seconds=0.4"), *[QUICK] * 9)
"""Four requests a second take 0.4 s: two workers are mostly busy with them, and all others wait."""


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """One host, with two workers."""
    web = {"web": {"workers": 2, "threads": 1}}
    return traffic.deployed(make(tmp_path_factory.mktemp("site")), module_hosts(), processes=web, drain=10)


@pytest.mark.promise(NO_LOSS, "requests that wait for a worker", part=1)
@pytest.mark.parametrize("number", range(3))
def test_what_waits_for_a_worker_is_answered(site: Site, number: int, tmp_path: Path) -> None:
    address, old = site.machine.address, site.answering
    new = site.edit()
    with sent(Load([address], RATE, TURN, streams=0), tmp_path / f"log{number}") as load:
        load.quiet(1)
        traffic.switches(load, site, old, new)
        load.quiet(1)
    assert load.history.faults() == []
    # They did wait, longer than a quick answer ever takes.
    waited = sorted(one.end - one.start for one in load.history.of("quick"))
    assert waited[len(waited) * 9 // 10] > 0.1
