"""A service without nginx: the same load on its own address loses nothing either."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.promises.words import NO_LOSS
from tests.support.clone import make
from tests.support.front_door import ask
from tests.support.hosts import MakeHosts
from tests.support.site import Site
from tests.traffic import service as traffic
from tests.traffic.load import CAREFUL, Load, require_no_loss, sent

PORT = 8081


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A host without an nginx file, whose service listens on the network."""
    hosts = module_hosts()
    clone = make(tmp_path_factory.mktemp("site"))
    return traffic.deployed(clone, hosts, nginx=None, listen=f"{hosts[0].address}:{PORT}")


def answering(site: Site) -> str:
    """Return the release that a client gets."""
    return str(ask(site.machine.address, port=PORT).json()["release"])


@pytest.mark.further("tests/hosts/service/test_listen.py::test_switches_lose_no_request")
@pytest.mark.promise(NO_LOSS, "deploy, rollback and restart, with listen: and no gateway")
def test_a_switch_loses_no_request(site: Site, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    address, old = site.machine.address, answering(site)
    new = site.edit()
    with sent(Load([address], turn=CAREFUL, port=PORT), tmp_path / "log") as load:
        load.quiet(2)
        traffic.switches(load, site, old, new)
        load.quiet(2)
    require_no_loss(load, request, retries=3 * load.kept)


@pytest.mark.further("tests/traffic/test_traffic.py::test_a_probation_loses_no_request")
@pytest.mark.promise(NO_LOSS, "a probation, with listen: and no gateway")
def test_a_probation_loses_no_request(site: Site, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    address, now = site.machine.address, answering(site)
    traffic.put(site.clone, nginx=None, listen=f"{address}:{PORT}", probation=4)
    new = site.edit()
    with sent(Load([address], turn=CAREFUL, port=PORT), tmp_path / "log") as load:
        load.quiet(3)
        with load.during("deploy", {address: (now, new)}):
            site.done("deploy", "--wait")
        load.quiet(3)
    require_no_loss(load, request, retries=load.kept)
