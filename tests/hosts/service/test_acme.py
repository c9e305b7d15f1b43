"""Certificates by ACME: certbot of the host asks pebble, which asks nginx as a public CA would."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from tests.support import pebble
from tests.support.clone import Clone, hurried, make
from tests.support.echo_service import deployed, put
from tests.support.front_door import NAME, ask, release_of, trusting
from tests.support.hosts import Hosts, MakeHosts
from tests.support.waiting import until

GOOD, SHORT = 14000, 15000
NAMES = [NAME, "www.myapp.example"]
ACME = {
    "server_name": NAMES,
    "tls": {"acme": {"email": "ops@myapp.example", "directory": pebble.directory(GOOD)}},
}
LIVE = "/etc/letsencrypt/live/loop-myapp"
RENEW = "certbot -q renew --no-random-sleep-on-renew --force-renewal"


@pytest.fixture(scope="module")
def host(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Hosts:
    """One host with two CAs of its own: of the second a certificate lasts only seconds."""
    made = module_hosts()
    pebble.install(made[0], tmp_path_factory.mktemp("ca"), NAMES)
    for port, seconds in ((GOOD, 20 * 86400), (SHORT, 8)):
        pebble.start(made[0], port, seconds)
    return made


@pytest.fixture(scope="module")
def clone(host: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that is deployed with a certificate of the first CA."""
    return deployed(hurried(make(tmp_path_factory.mktemp("acme"))), host, nginx=ACME)


def shown(host: Hosts) -> str:
    """Return the certificate that clients get."""
    context = trusting()
    with context.wrap_socket(
        socket.create_connection((host[0].address, 443), timeout=60), server_hostname=NAME
    ) as wire:
        return ssl.DER_cert_to_PEM_cert(wire.getpeercert(True) or b"")


def read(host: Hosts) -> str:
    """Return the certificate that certbot has."""
    return host[0].sh(f"openssl x509 -in {LIVE}/fullchain.pem").stdout.decode()


def test_the_first_deploy_waits_for_the_certificate_of_all_names(clone: Clone, host: Hosts) -> None:
    assert shown(host) == read(host)
    told = host[0].sh(f"openssl x509 -noout -ext subjectAltName -in {LIVE}/fullchain.pem").stdout.decode()
    assert "DNS:myapp.example, DNS:www.myapp.example" in told
    assert release_of(host[0].address) == clone.release()
    assert "the certificate ends in 19 days" in clone.done("status", "-H", "shire01").both
    assert "the certificate ends in 19 days" in clone.fab("doctor", "-H", "shire01").both
    assert clone.done("plan", "-H", "shire01", "--json").json()["hosts"][0]["unchanged"]
    assert clone.done("drift", "-H", "shire01", "--as", "root").status == 0


def test_a_renewal_passes_maintenance_allow_and_redirects_and_is_shown(clone: Clone, host: Hosts) -> None:
    put(clone, nginx={**ACME, "allow": ["192.0.2.0/24"]}).done("deploy", "-H", "shire01")
    clone.done("maintenance", "on", "-H", "shire01")
    before = shown(host)
    ended = host[0].sh(RENEW, timeout=300)
    assert ended.returncode == 0, (ended.stdout + ended.stderr).decode()
    # nginx's former workers take connections for a moment after the reload.
    until(lambda: shown(host) == read(host))
    assert shown(host) != before
    clone.done("maintenance", "off", "-H", "shire01")
    assert ask(host[0].address).status == 403
    put(clone, nginx=ACME).done("deploy", "-H", "shire01")
    assert shown(host) == read(host)


def test_one_that_does_not_come_is_told_and_the_former_gateway_stays(clone: Clone, host: Hosts) -> None:
    before = host[0].sh("sha256sum /etc/nginx/conf.d/myapp.conf /etc/myapp/tls/*").stdout
    ended = put(clone, nginx={**ACME, "server_name": [NAME, "elsewhere.example"]}).fab("deploy", "-H", "shire01")
    put(clone, nginx=ACME)
    assert ended.status == 1
    assert "certbot got no certificate" in ended.both
    assert "elsewhere.example" in ended.both
    assert host[0].sh("sha256sum /etc/nginx/conf.d/myapp.conf /etc/myapp/tls/*").stdout == before
    assert release_of(host[0].address)


def test_one_that_has_ended_is_told_and_setup_gets_another(clone: Clone, host: Hosts) -> None:
    machine = host[0]
    words = f"certbot certonly -n --webroot -w /etc/myapp/acme --cert-name loop-myapp -d {' -d '.join(NAMES)}"
    again = f"{words} --force-renewal --agree-tos --email a@b.example --server {pebble.directory(SHORT)}"
    ended = machine.sh(again, timeout=300)
    assert ended.returncode == 0, (ended.stdout + ended.stderr).decode()
    until(lambda: machine.sh(f"openssl x509 -noout -checkend 0 -in {LIVE}/fullchain.pem").returncode)
    until(
        lambda: machine.sh("systemctl is-active myapp-certificate.service").stdout.strip() in {b"inactive", b"failed"}
    )
    said = clone.fab("doctor", "-H", "shire01").both
    assert "the certificate has ended" in said or "has expired" in said
    clone.done("setup", "-H", "shire01")
    assert shown(host) == read(host)
    assert machine.sh("openssl x509 -noout -checkend 86400 -in /etc/myapp/tls/pair.pem").returncode == 0


def test_another_certificate_ends_the_renewals_and_acme_comes_back(clone: Clone, host: Hosts) -> None:
    listed = "ls /etc/letsencrypt/renewal"
    put(clone, nginx={"server_name": NAMES}).done("setup", "-H", "shire01")
    assert host[0].sh(listed).stdout == b""
    assert ask(host[0].address).status == 200
    put(clone, nginx=ACME).done("setup", "-H", "shire01")
    assert host[0].sh(listed).stdout == b"loop-myapp.conf\n"
    assert shown(host) == read(host)


def test_removing_the_service_ends_the_renewals(clone: Clone, host: Hosts) -> None:
    clone.done("remove", "-H", "shire01", "--as", "root", "--yes", "--data")
    assert host[0].sh("ls /etc/letsencrypt/renewal").stdout == b""


def test_one_name_on_several_hosts_is_refused_before_contact(clone: Clone, tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yaml"
    inventory.write_text("hosts:\n  one: {address: 192.0.2.1, user: a}\n  two: {address: 192.0.2.2, user: a}\n")
    ended = Clone(clone.root, inventory).fab("deploy", "-H", "one")
    assert ended.status == 2
    assert "acme cannot get a certificate for myapp.example on several hosts (one and two)" in ended.err
    assert "service.yaml" in ended.err
