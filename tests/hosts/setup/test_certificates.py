"""The operator's own certificate: clients get what the files contain, or nothing changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.certificates import Authority, serial
from tests.support.clone import Clone, make
from tests.support.echo_service import deployed, description, put
from tests.support.front_door import NAME, ask, release_of
from tests.support.hosts import Hosts, MakeHosts

OWN = {"server_name": NAME, "tls": {"certificate": "tls/myapp.pem", "key": "tls/myapp.key"}}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that the clients of these tests trust."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def shire(module_hosts: MakeHosts) -> Hosts:
    """One host for this module."""
    return module_hosts()


@pytest.fixture(scope="module")
def own(shire: Hosts, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that is deployed with a certificate of the operator's."""
    clone = make(tmp_path_factory.mktemp("own"))
    issue(clone, authority)
    return deployed(clone, shire, nginx=OWN)


def issue(clone: Clone, authority: Authority, name: str = NAME) -> None:
    authority.issue(clone.root / "tls/myapp.pem", clone.root / "tls/myapp.key", name)


def installed(shire: Hosts) -> bytes:
    return shire[0].sh("sha256sum /etc/myapp/tls/*.pem /etc/nginx/conf.d/*").stdout


def test_clients_see_the_operators_certificate_and_the_key_is_roots(
    own: Clone, shire: Hosts, authority: Authority
) -> None:
    assert serial(shire[0].address, authority.certificate)
    assert shire[0].sh("stat -c '%a %U' /etc/myapp/tls/key.pem").stdout == b"600 root\n"
    assert own.done("plan", "-H", "shire01", "--json").json()["hosts"][0]["unchanged"]


@pytest.mark.parametrize("verb", ["deploy", "setup"])
def test_a_renewed_certificate_is_shown_after_the_next_run(
    own: Clone, shire: Hosts, authority: Authority, verb: str
) -> None:
    before = serial(shire[0].address, authority.certificate)
    main = shire[0].sh("systemctl show -p MainPID nginx").stdout
    issue(own, authority)
    ended = own.done(verb, "-H", "shire01")
    assert "nothing had to be written" not in ended.out
    assert serial(shire[0].address, authority.certificate) != before
    assert shire[0].sh("systemctl show -p MainPID nginx").stdout == main, "nginx was restarted, not reloaded"


@pytest.mark.parametrize("verb", ["deploy", "setup"])
def test_a_key_that_is_not_of_the_certificate_is_refused_before_a_host_is_contacted(
    own: Clone, shire: Hosts, authority: Authority, verb: str, tmp_path: Path
) -> None:
    before = installed(shire)
    kept = (own.root / "tls/myapp.key").read_bytes()
    authority.issue(tmp_path / "other.pem", own.root / "tls/myapp.key")
    try:
        ended = own.fab(verb, "-H", "shire01")
    finally:
        (own.root / "tls/myapp.key").write_bytes(kept)
    assert ended.status == 2
    assert "belong together" in ended.err
    assert "tls/myapp.key" in ended.err
    assert installed(shire) == before


def test_a_certificate_that_is_not_there_is_refused_before_a_host_is_contacted(own: Clone) -> None:
    (own.root / "tls/myapp.pem").rename(own.root / "tls/away.pem")
    try:
        ended = own.fab("deploy", "-H", "shire01")
    finally:
        (own.root / "tls/away.pem").rename(own.root / "tls/myapp.pem")
    assert ended.status == 2
    assert "tls/myapp.pem" in ended.err
    assert "No such file" in ended.err


def test_a_certificate_for_another_name_is_refused_and_the_former_stays(
    own: Clone, shire: Hosts, authority: Authority
) -> None:
    before, seen = installed(shire), serial(shire[0].address, authority.certificate)
    issue(own, authority, "elsewhere.example")
    try:
        ended = own.fab("deploy", "-H", "shire01")
    finally:
        issue(own, authority)
    assert ended.status == 1
    assert f"the certificate is not for {NAME}" in ended.out
    assert installed(shire) == before
    assert serial(shire[0].address, authority.certificate) == seen


def test_plain_http_comes_only_in_words_and_tls_comes_back(own: Clone, shire: Hosts, authority: Authority) -> None:
    put(own, nginx={"server_name": NAME, "tls": "off"}).done("deploy", "-H", "shire01")
    assert ask(shire[0].address, port=80).json()["release"] == own.release()
    with pytest.raises(ConnectionRefusedError):
        ask(shire[0].address)
    own.write("service/service.yaml", description(nginx=OWN))
    own.done("deploy", "-H", "shire01")
    assert ask(shire[0].address, port=80).status == 301
    assert release_of(shire[0].address) == own.release()
    assert serial(shire[0].address, authority.certificate)
