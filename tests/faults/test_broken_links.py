"""A link that is cut or stalls in the middle of a deploy, to one of two hosts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.faults.moments import MOMENTS, Struck, strike
from tests.promises.words import OTHERS, WHOLE
from tests.support.clone import make, quicken
from tests.support.hosts import MakeHosts
from tests.support.link import Link, link_to
from tests.support.site import Site
from tests.support.stand_ins import entries, write_inventory
from tests.support.state_check import check, settled_after

LIMIT = 8
"""Seconds that a step may take here."""

DEPLOY = ("deploy", "-H", "all", "--canary", "2", "--max-failures", "1")


@dataclass(frozen=True)
class Pair:
    """One clone, a host reached directly, and one through a link."""

    direct: Site
    linked: Site
    link: Link

    def edit(self) -> tuple[str, str]:
        """Edit the service; return the release that both serve, and the new one."""
        return self.linked.answering, self.linked.edit()


@pytest.fixture(scope="module")
def pair(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    hosts = module_hosts(2)
    folder = tmp_path_factory.mktemp("links")
    inventory = entries(hosts.inventory)
    with link_to(hosts[1].address) as link:
        inventory["shire02"] = link.entry(hosts[1], str(inventory["shire02"]["identity"]))
        clone = make(folder, write_inventory(folder / "hosts.yaml", inventory))
        quicken(clone)
        clone.replace("tasks/engine/ssh/byte_stream.py", "LINK_SECONDS = 15", "LINK_SECONDS = 6")
        clone.replace("tasks/engine/deploy/run_lock.py", "_HEARTBEAT = 8.0", "_HEARTBEAT = 3.0")
        clone.replace("templates/host/hold.py", "SILENCE = 30", "SILENCE = 12")
        clone.done("deploy", "-H", "all")
        yield Pair(Site(clone, hosts[0]), Site(clone, hosts[1]), link)


@pytest.fixture
def healed(pair: Pair) -> Iterator[Pair]:
    yield pair
    pair.link.heal()


def require_true_report(ended: Struck, pair: Pair, *allowed: str) -> None:
    """Assert that the other host is done, and that the run's report on this one is true."""
    assert "Traceback" not in ended.out
    assert check(pair.direct, allowed[-1]) == allowed[-1]
    serves = check(pair.linked, *allowed)
    outcome = {0: "DEPLOYED", 1: "FAILED", 3: "UNREACHABLE"}[ended.status]
    assert f"shire02  {outcome}" in ended.out, ended.out
    assert serves == allowed[-1] or ended.status != 0, ended.out
    assert set(re.findall("serves now: release ([0-9a-f]+)", ended.out)) <= {serves}, ended.out


@pytest.mark.further(
    "tests/hosts/deploy/test_uploads.py::test_wheels_that_arrived_whole_before_the_link_was_cut_are_not_sent_again"
)
@pytest.mark.promise(WHOLE, "the SSH link is reset at a step", part=1)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_link_that_is_reset_leaves_both_hosts_well(healed: Pair, moment: str) -> None:
    old, new = healed.edit()
    ended = strike(healed.linked.clone, DEPLOY, f"shire02  {moment}", healed.link.reset)
    require_true_report(ended, healed, old, new)
    assert settled_after(healed.linked, DEPLOY, new) == new


@pytest.mark.promise(OTHERS, "the SSH link to one host is stalled both ways at a step", part=1)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_link_that_is_stalled_is_given_up_in_time_and_the_other_host_is_done(healed: Pair, moment: str) -> None:
    old, new = healed.edit()
    ended = strike(healed.linked.clone, ("-T", str(LIMIT), *DEPLOY), f"shire02  {moment}", healed.link.stall)
    assert ended.seconds < 300  # TCP alone would wait 900
    require_true_report(ended, healed, old, new)
    healed.link.heal()
    assert settled_after(healed.linked, DEPLOY, new) == new
