"""A service with no gateway: the same load on its own address loses nothing either."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clone import make
from tests.hosts import MakeHosts
from tests.promises import traffic
from tests.promises.load import CAREFUL, Load, proven, sent
from tests.promises.words import NO_LOSS
from tests.site import Site

PORT = 8081


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A host with no nginx file, whose service listens to the network."""
    hosts = module_hosts()
    clone = make(tmp_path_factory.mktemp("site"))
    return traffic.deployed(clone, hosts, nginx=None, listen=f"{hosts[0].address}:{PORT}")


@pytest.mark.parametrize(
    "verb",
    [pytest.param(verb, marks=pytest.mark.promise(NO_LOSS, f"{verb}, with listen: and no gateway"))
     for verb in ("deploy", "rollback", "restart")],
)  # fmt: skip
def test_a_switch_loses_no_request(site: Site, verb: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    address, clone = site.machine.address, site.clone
    before = clone.release()
    now = site.edit()
    clone.done("deploy", "-H", "shire01")
    after = {"deploy": site.edit(), "rollback": before, "restart": now}[verb]
    with sent(Load([address], turn=CAREFUL, port=PORT), tmp_path / "log") as load:
        load.quiet(3)
        with load.during(verb, {address: (now, after)}):
            site.done(verb)
        load.quiet(3)
    proven(load, verb, request, retries=load.kept)
