"""Requests of every kind across events on a host: none is lost, and the right release answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.promises.words import NO_LOSS
from tests.support.certificates import Authority, serial
from tests.support.clone import make
from tests.support.front_door import NAME
from tests.support.hosts import MakeHosts
from tests.support.site import Site
from tests.traffic import service as traffic
from tests.traffic.load import CAREFUL, QUICK, Load, Shot, require_no_loss, sent

QUIET = 3.0
TLS = {"server_name": NAME, "tls": {"certificate": "tls/myapp.pem", "key": "tls/myapp.key"}}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority of the host's certificates."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Site:
    """One host for this module."""
    clone = make(tmp_path_factory.mktemp("site"))
    authority.issue(clone.root / "tls/myapp.pem", clone.root / "tls/myapp.key")
    return traffic.deployed(clone, module_hosts(), nginx=TLS)


@pytest.mark.further("tests/hosts/service/test_own_authority.py::test_renewing_and_rotating_lose_no_request")
@pytest.mark.promise(NO_LOSS, "a new certificate")
def test_a_new_certificate_loses_no_request(
    site: Site, authority: Authority, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    address, folder = site.machine.address, site.clone.root / "tls"
    shown = serial(address, authority.certificate)
    with sent(Load([address], turn=CAREFUL), tmp_path / "log") as load:
        load.quiet(QUIET)
        authority.issue(folder / "myapp.pem", folder / "myapp.key")
        with load.during("setup"):
            site.done("setup")
        assert serial(address, authority.certificate) != shown
        load.quiet(QUIET)
    require_no_loss(load, request, retries=load.kept)


@pytest.mark.promise(NO_LOSS, "fifty connections that are kept alive")
def test_connections_that_are_kept_alive_see_nothing_of_a_switch(site: Site, tmp_path: Path) -> None:
    address, now = site.machine.address, site.answering
    new = site.edit()
    turn = [QUICK] * 9 + [Shot("post", "/echo", 4096)]
    with sent(Load([address], turn=turn, streams=0, kept=50), tmp_path / "log") as load:
        load.quiet(2)
        with load.during("deploy", {address: (now, new)}):
            site.done("deploy")
        load.quiet(2)
    assert load.history.faults() == []
    for release in (now, new):
        assert {one.number for one in load.history.requests if one.release == release} >= set(range(1, 51))


@pytest.mark.further("test_a_probation_loses_no_request")
@pytest.mark.promise(NO_LOSS, "a release that takes ten seconds to import")
def test_a_slow_import_changes_nothing_for_users(site: Site, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    address, now = site.machine.address, site.answering
    traffic.put(site.clone, nginx=TLS, env={"IMPORT_SECONDS": "10"})
    new = site.edit()
    with sent(Load([address]), tmp_path / "log") as load:
        load.quiet(QUIET)
        with load.during("deploy", {address: (now, new)}):
            site.done("deploy")
        load.quiet(QUIET)
    traffic.put(site.clone, nginx=TLS)
    require_no_loss(load, request)
    took = min(one.end for one in load.history.requests if one.release == new)
    assert took - load.windows[1].since > 10
    assert load.history.seconds(["deploy"], ["quick"])[-1] < 5, "somebody waited for the import"


@pytest.mark.promise(NO_LOSS, "a probation, and its end")
def test_a_probation_loses_no_request(site: Site, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    address, now = site.machine.address, site.answering
    traffic.put(site.clone, nginx=TLS, probation=4)
    new = site.edit()
    with sent(Load([address]), tmp_path / "log") as load:
        load.quiet(QUIET)
        with load.during("deploy", {address: (now, new)}):
            site.done("deploy", "--wait")
        load.quiet(QUIET)
    traffic.put(site.clone, nginx=TLS)
    require_no_loss(load, request)
    took = min(one.end for one in load.history.requests if one.release == new)
    assert load.windows[1].until - took > 4
