"""200 requests a second of every kind, across each verb: none is lost, and who answers is who should."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.certificates import Authority, serial
from tests.clone import make
from tests.front import NAME
from tests.hosts import MakeHosts
from tests.promises import traffic
from tests.promises.load import Load, sent
from tests.promises.load_history import History, figures
from tests.promises.words import NO_LOSS
from tests.site import Site

QUIET = 4.0
TLS = {"server_name": NAME, "tls": {"certificate": "tls/myapp.pem", "key": "tls/myapp.key"}}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whose certificates the host has."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Site:
    """One host for all of this module."""
    clone = make(tmp_path_factory.mktemp("site"))
    authority.issue(clone.root / "tls/myapp.pem", clone.root / "tls/myapp.key")
    return traffic.deployed(clone, module_hosts(), nginx=TLS)


def prove(history: History, verb: str, request: pytest.FixtureRequest) -> None:
    """Nothing was lost, everything was sent, and what it took is told."""
    told = figures(history, verb)
    request.node.user_properties.append(("figures", told))
    request.node.add_report_section("call", "figures", "\n".join(f"{name}: {value}" for name, value in told.items()))
    assert history.faults() == []
    assert set(history.tally()) == {"quick", "slow", "post", "upload", "stream"}


@pytest.mark.parametrize(
    "verb",
    [pytest.param(verb, marks=pytest.mark.promise(NO_LOSS, verb)) for verb in ("deploy", "rollback", "restart")],
)
def test_a_switch_loses_no_request(site: Site, verb: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    address, before = site.machine.address, site.answering
    now = site.deploy()
    after = {"deploy": site.edit(), "rollback": before, "restart": now}[verb]
    with sent(Load([address]), tmp_path / "log") as load:
        load.quiet(QUIET)
        with load.during(verb, {address: (now, after)}):
            site.done(verb)
        load.quiet(QUIET)
    prove(load.history, verb, request)
    assert site.answering == after


@pytest.mark.promise(NO_LOSS, "a new certificate")
def test_a_new_certificate_loses_no_request(
    site: Site, authority: Authority, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    address, folder = site.machine.address, site.clone.root / "tls"
    shown = serial(address, authority.certificate)
    with sent(Load([address]), tmp_path / "log") as load:
        load.quiet(QUIET)
        authority.issue(folder / "myapp.pem", folder / "myapp.key")
        with load.during("setup"):
            site.done("setup")
        assert serial(address, authority.certificate) != shown
        load.quiet(QUIET)
    prove(load.history, "setup", request)
