"""Certificates of the operator's own CA: setup issues the first, `fab cert` renews, and no key travels."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.certificates import Authority, serial
from tests.support.clone import Clone, make
from tests.support.echo_service import deployed, description, put
from tests.support.front_door import NAME, ask
from tests.support.hosts import Hosts, MakeHosts

CA = {"certificate": "tls/ca.pem", "key": "tls/ca.key", "days": 90}
OWN = {"server_name": [NAME, "*.apps.example"], "tls": {"ca": CA}}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The CA, which the clients of these tests trust."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def host(module_hosts: MakeHosts) -> Hosts:
    """One host for this module."""
    return module_hosts()


@pytest.fixture(scope="module")
def clone(host: Hosts, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that is deployed with a certificate of the CA."""
    made = make(tmp_path_factory.mktemp("own"))
    keep(made, authority)
    return deployed(made, host, nginx=OWN)


def keep(clone: Clone, authority: Authority) -> None:
    """Put the CA into the clone."""
    (clone.root / "tls").mkdir(exist_ok=True)
    for name in ("ca.pem", "ca.key"):
        (clone.root / "tls" / name).write_bytes((authority.folder / name).read_bytes())
        (clone.root / "tls" / name).chmod(0o600)


def key_of(host: Hosts) -> str:
    """Return the public key of the pair that nginx reads."""
    told = host[0].sh("openssl x509 -noout -pubkey -in /etc/myapp/tls/pair.pem").stdout
    assert told == host[0].sh("openssl pkey -pubout -in /etc/myapp/tls/pair.pem").stdout
    return hashlib.sha256(told).hexdigest()


@contextmanager
def asked(address: str) -> Iterator[list[object]]:
    """Ask the front door all the time; yield what is wrong, if anything."""
    wrong: list[object] = []
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.02):
            try:
                status = ask(address, timeout=60).status
                if status != 200:
                    wrong.append(status)
            except OSError as error:
                wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield wrong
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_the_first_deploy_brings_a_certificate_and_its_key_is_the_hosts(
    clone: Clone, host: Hosts, authority: Authority
) -> None:
    assert serial(host[0].address, authority.certificate)
    assert serial(host[0].address, authority.certificate, "one.apps.example")
    told = host[0].sh("stat -c '%a %U %n' /etc/myapp/tls/*").stdout.decode().splitlines()
    assert told == [
        "644 root /etc/myapp/tls/certificate.pem",
        "600 root /etc/myapp/tls/nobody.pem",
        "600 root /etc/myapp/tls/pair.pem",
    ]
    assert b"PRIVATE" not in host[0].sh("cat /etc/myapp/nginx/ca.pem /etc/myapp/tls/certificate.pem").stdout
    secret = host[0].sh("grep -A2 PRIVATE /etc/myapp/tls/pair.pem | tail -1").stdout.decode().strip()
    assert secret
    kept = [path.read_text(errors="replace") for path in (clone.root.parent / "home").rglob("*") if path.is_file()]
    assert kept
    assert not [text for text in kept if secret in text]
    assert clone.done("status", "-H", "shire01", "--json").json()["hosts"][0]["certificate_days"] in {29, 28}
    assert clone.done("plan", "-H", "shire01", "--json").json()["hosts"][0]["unchanged"]
    assert clone.done("drift", "-H", "shire01", "--as", "root").status == 0


def test_a_certificate_that_is_good_stays_at_setup(clone: Clone, host: Hosts, authority: Authority) -> None:
    before = serial(host[0].address, authority.certificate)
    clone.done("setup", "-H", "shire01")
    assert serial(host[0].address, authority.certificate) == before


@pytest.mark.parametrize("words", [(), ("--rotate",)], ids=["renew", "rotate"])
def test_renewing_and_rotating_lose_no_request(
    clone: Clone, host: Hosts, authority: Authority, words: tuple[str, ...]
) -> None:
    before, key = serial(host[0].address, authority.certificate), key_of(host)
    with asked(host[0].address) as wrong:
        told = clone.done("cert", "-H", "shire01", *words).out
    assert wrong == []
    assert "RENEWED" in told
    assert f"{NAME}, *.apps.example, for " in told
    assert serial(host[0].address, authority.certificate) != before
    assert (key_of(host) == key) == (not words)
    assert not host[0].sh("ls -A /etc/myapp/tls | grep next").stdout
    clone.done("deploy", "-H", "shire01")


def test_a_certificate_that_nginx_has_not_read_is_told(clone: Clone, host: Hosts, authority: Authority) -> None:
    public, kept = "/etc/myapp/tls/certificate.pem", "/etc/myapp/tls/kept"
    said = "nginx shows another certificate than"
    assert said not in clone.done("status", "-H", "shire01").both
    authority.issue(authority.folder / "new.pem", authority.folder / "new.key")
    host[0].sh(f"mv {public} {kept}; cat - {kept} >{public}", (authority.folder / "new.pem").read_bytes())
    told = clone.done("status", "-H", "shire01").both + clone.fab("doctor", "-H", "shire01").both
    host[0].sh(f"mv -f {kept} {public}")
    assert told.count(said) == 2


def test_a_renewal_that_nginx_refuses_changes_nothing(clone: Clone, host: Hosts, authority: Authority) -> None:
    before, files = serial(host[0].address, authority.certificate), "sha256sum /etc/myapp/tls/*.pem"
    former = host[0].sh(files).stdout
    host[0].sh("echo nonsense >/etc/nginx/conf.d/broken.conf")
    ended = clone.fab("cert", "-H", "shire01")
    host[0].sh("rm /etc/nginx/conf.d/broken.conf")
    assert ended.status == 1
    assert "nginx refuses its configuration" in ended.both
    assert host[0].sh(files).stdout == former
    assert serial(host[0].address, authority.certificate) == before


def test_another_name_and_another_ca_are_issued_by_the_next_deploy(
    clone: Clone, host: Hosts, authority: Authority, tmp_path: Path
) -> None:
    put(clone, nginx={**OWN, "server_name": [NAME, "www.myapp.example"]}).done("deploy", "-H", "shire01")
    assert serial(host[0].address, authority.certificate, "www.myapp.example")
    other = Authority(tmp_path / "other")
    keep(clone, other)
    assert "/etc/myapp/nginx/ca.pem" in clone.done("plan", "-H", "shire01").out
    clone.done("deploy", "-H", "shire01")
    assert serial(host[0].address, other.certificate)
    keep(clone, authority)
    put(clone, nginx=OWN).done("deploy", "-H", "shire01")
    assert serial(host[0].address, authority.certificate)


def test_setup_that_was_cut_before_the_certificate_is_completed_by_the_next_deploy(
    clone: Clone, host: Hosts, authority: Authority
) -> None:
    put(clone, nginx={"server_name": NAME}).done("deploy", "-H", "shire01")
    put(clone, nginx=OWN)
    clone.environment["FAILPOINT"] = "certify.placed=die"
    try:
        assert clone.fab("setup", "-H", "shire01").status
    finally:
        del clone.environment["FAILPOINT"]
    host[0].sh("systemctl restart nginx")
    assert ask(host[0].address).status == 200
    clone.done("setup", "-H", "shire01")
    assert serial(host[0].address, authority.certificate)


def test_a_key_that_others_may_read_is_refused_before_contact(clone: Clone) -> None:
    (clone.root / "tls/ca.key").chmod(0o640)
    try:
        for verb in ("deploy", "setup", "cert"):
            ended = clone.fab(verb, "-H", "shire01")
            assert ended.status == 2
            assert "tls/ca.key" in ended.err
            assert "chmod 600 tls/ca.key" in ended.err
    finally:
        (clone.root / "tls/ca.key").chmod(0o600)


def test_cert_is_refused_where_no_ca_of_yours_issues(clone: Clone) -> None:
    text = (clone.root / "service/service.yaml").read_text()
    clone.write("service/service.yaml", description())
    ended = clone.fab("cert", "-H", "shire01")
    clone.write("service/service.yaml", text)
    assert ended.status == 2
    assert "the certificate of shire01 does not come from your own CA" in ended.err
