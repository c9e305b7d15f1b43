"""Our own health checks are in the logs of nginx and of the service, but do not fill the output of `fab logs`."""

from __future__ import annotations

import pytest

from tests.support import front_door as front
from tests.support.clone import make, quicken
from tests.support.hosts import MakeHosts
from tests.support.logs_fleet import Reader
from tests.support.site import Site

ASKED = ("--nginx", "--grep", "GET /readyz 200")


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    hosts = module_hosts()
    made = Site(make(tmp_path_factory.mktemp("checks"), hosts.inventory), hosts[0])
    quicken(made.clone)
    made.deploy()
    return made


def requests(site: Site, *words: str) -> list[tuple[str, str]]:
    """Return the source of each line, and its check mark."""
    site.sh("journalctl --sync")
    lines = site.done("logs", *ASKED, "--json", *words).json()["lines"]
    return sorted((line["source"], line["fields"].get("check") or "") for line in lines)


def test_our_own_are_hidden_unless_asked_for_and_those_of_others_are_shown(site: Site) -> None:
    since = site.sh("date -u '+%Y-%m-%d %H:%M:%S.%6N'").strip()
    before = site.slot
    front.ask(site.machine.address, "/readyz", headers={"X-Loop-Check": "live"})
    site.done("health")
    site.done("restart")
    shown = [(f"myapp@{before}", ""), ("nginx", "")]
    assert requests(site, "--since", since) == requests(site, "-n", "2") == shown
    every = requests(site, "--since", since, "--checks")
    # By fab health at the slot and the front door; by the restart at the slot, and at the door before and after it.
    ours = [
        *[(f"myapp@{before}", way) for way in (before, "live")],
        *[(f"myapp@{site.slot}", way) for way in (site.slot, site.slot, "live")],
        *[("nginx", way) for way in (site.slot, "live", "live")],
    ]
    assert every == sorted([*shown, *ours])


def test_they_are_not_followed_either(site: Site) -> None:
    front.ask(site.machine.address, "/readyz")
    site.sh("journalctl --sync")
    with site.clone.start("logs", "-H", "shire01", "-f", "-n", "2", *ASKED) as process:
        reader = Reader(process)
        reader.until(lambda: len(reader.out) == 2)
        site.done("health")
        front.ask(site.machine.address, "/readyz")
        reader.until(lambda: len(reader.out) >= 4)
        reader.stop()
    assert len(reader.out) == 4
    assert not any("check=" in line for line in reader.out)


def test_in_maintenance_the_client_is_shown_and_our_own_are_not(site: Site) -> None:
    site.clone.done("maintenance", "on", "-H", "shire01")
    try:
        since = site.sh("date -u '+%Y-%m-%d %H:%M:%S.%6N'").strip()
        assert front.ask(site.machine.address, "/readyz", headers={"X-Loop-Check": "live"}).status == 503
        site.done("health")
        assert requests(site, "--since", since) == []
        assert "GET /readyz 503" in site.done("logs", "--nginx", "--since", since).out
    finally:
        site.clone.done("maintenance", "off", "-H", "shire01")
