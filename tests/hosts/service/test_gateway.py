"""nginx in front: requests it passes, headers it adds, and details it hides."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import warnings
from pathlib import Path

import pytest

from tasks.engine.host import templates
from tests.support.clone import ROOT, make
from tests.support.echo_service import APP, deployed, put
from tests.support.front_door import NAME, ask, trusting
from tests.support.hosts import MakeHosts

UPLOAD = 15 * 1000 * 1000
REFUSED = tuple(re.findall(r'proxy_set_header (\S+) "";', templates.text("nginx/proxy.conf")))


@pytest.fixture(scope="module")
def address(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a host whose service returns the request, behind nginx."""
    hosts = module_hosts()
    deployed(make(tmp_path_factory.mktemp("gateway")), hosts)
    return hosts[0].address


@pytest.fixture
def certificate(address: str, tmp_path: Path) -> Path:
    """The certificate that the host shows."""
    path = tmp_path / "shown.pem"
    context = trusting()
    with handshake(address, context) as connection:
        path.write_text(ssl.DER_cert_to_PEM_cert(connection.getpeercert(True) or b""))
    return path


def handshake(address: str, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(socket.create_connection((address, 443), timeout=10), server_hostname=NAME)


def speaking(version: ssl.TLSVersion, ciphers: str) -> ssl.SSLContext:
    """Return a client that speaks only this, and trusts any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.parametrize(
    ("version", "cipher"),
    [
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-CHACHA20-POLY1305"),
        (ssl.TLSVersion.TLSv1_3, "ALL"),
    ],
)
def test_modern_tls_is_spoken(address: str, version: ssl.TLSVersion, cipher: str) -> None:
    with handshake(address, speaking(version, cipher)) as connection:
        assert connection.version() == {771: "TLSv1.2", 772: "TLSv1.3"}[version]


@pytest.mark.parametrize(
    ("version", "cipher"),
    [
        (ssl.TLSVersion.TLSv1_1, "ALL"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-SHA"),
    ],
)
def test_a_client_that_knows_only_weak_tls_is_refused(address: str, version: ssl.TLSVersion, cipher: str) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
        handshake(address, speaking(version, cipher))


def test_plain_http_is_sent_on_to_the_same_place_over_https(address: str) -> None:
    answer = ask(address, "/some/page?a=b&c=%20d", port=80)
    assert (answer.status, answer.headers["location"]) == (301, f"https://{NAME}/some/page?a=b&c=%20d")


def test_versions_are_told_to_nobody(address: str) -> None:
    assert ask(address, "/echo", headers={"Content-Length": "40000000"}).headers["server"] == "nginx"


@pytest.mark.parametrize("name", ["stranger.example", "10.0.0.1", "www.myapp.example"])
def test_another_host_name_gets_no_answer_of_the_service(address: str, name: str) -> None:
    with pytest.raises(ConnectionError):
        ask(address, name=name)
    with contextlib.suppress(ConnectionError):
        assert b"release" not in ask(address, name=name, port=80).body


def test_the_certificate_is_for_the_name_and_its_key_for_root(address: str, certificate: Path) -> None:
    knowing = ssl.create_default_context(cafile=str(certificate))
    with handshake(address, knowing) as connection:
        assert (connection.getpeercert() or {})["subjectAltName"] == (("DNS", NAME),)


@pytest.mark.parametrize("name", ["stranger.example", None], ids=["another name", "no name"])
def test_whoever_asks_for_no_name_of_ours_is_shown_no_certificate_of_ours(address: str, name: str | None) -> None:
    context = trusting()
    with context.wrap_socket(socket.create_connection((address, 443), timeout=10), server_hostname=name) as wire:
        shown = wire.getpeercert(True) or b""
        assert NAME.encode() not in shown
        assert b"myapp" not in shown
        wire.sendall(b"GET /healthz HTTP/1.0\r\nHost: stranger.example\r\n\r\n")
        assert wire.recv(65536) == b""


def test_a_client_without_sni_that_knows_the_name_is_served(address: str) -> None:
    """A balancer that checks by address sends the name in the request alone."""
    context = trusting()
    with context.wrap_socket(socket.create_connection((address, 443), timeout=10)) as wire:
        wire.sendall(b"GET /healthz HTTP/1.0\r\nHost: %s\r\n\r\n" % NAME.encode())
        assert wire.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_is_resumed_that_a_certificate_of_another_site_could_have_begun(
    address: str, version: ssl.TLSVersion
) -> None:
    context = speaking(version, "ALL")
    with handshake(address, context) as first:
        first.sendall(b"GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n" % NAME.encode())
        assert first.recv(65536)
        session = first.session
    again = socket.create_connection((address, 443), timeout=10)
    with context.wrap_socket(again, server_hostname=NAME, session=session) as second:
        second.sendall(b"GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n" % NAME.encode())
        assert second.recv(65536)
        assert not second.session_reused


def test_what_is_said_of_the_client_is_nginx_own_word(address: str) -> None:
    spoofed = {"X-Forwarded-For": "192.0.2.99", "X-Forwarded-Proto": "http", "X-Request-ID": "spoofed-by-client"}
    answer = ask(address, "/echo", headers=spoofed).json()["headers"]
    assert answer["X-Forwarded-For"] not in ("", "192.0.2.99")
    assert "," not in answer["X-Forwarded-For"]
    assert answer["X-Forwarded-Proto"] == "https"
    assert len(answer["X-Request-Id"]) == 32
    assert "spoofed" not in str(answer)


@pytest.mark.parametrize(
    "headers",
    [REFUSED[::2], REFUSED[1::2], ("Script_Name", "Remote_User", "X_Loop_Check", "X-Loop-Check")],
    ids=["even", "odd", "underscores"],
)
def test_a_client_cannot_say_who_it_is_nor_where_the_service_is(address: str, headers: tuple[str, ...]) -> None:
    given = ask(address, "/echo", headers=dict.fromkeys(headers, "/evil.example")).json()["headers"]
    assert "evil" not in str(given)


def answered(address: str, port: int, request: bytes) -> bytes:
    """Return all bytes that answer these, until the connection ends."""
    wire: socket.socket = socket.create_connection((address, port), timeout=10)
    if port == 443:
        context = trusting()
        wire = context.wrap_socket(wire, server_hostname=NAME)
    with wire:
        wire.sendall(request)
        told = b""
        while data := wire.recv(65536):
            told += data
    return told


@pytest.mark.parametrize("port", [80, 443])
def test_without_a_host_name_nothing_is_answered(address: str, port: int) -> None:
    named = answered(address, port, b"GET /healthz HTTP/1.0\r\nHost: %s\r\n\r\n" % NAME.encode())
    assert named.startswith(b"HTTP/1.1 200" if port == 443 else b"HTTP/1.1 301")
    for host in (b"", b"Host:\r\n", b"Host: \r\n"):
        told = answered(address, port, b"GET /healthz HTTP/1.0\r\n%s\r\n" % host)
        # On port 80 the host's own site answers for every name.
        assert b"release" not in told
        assert NAME.encode() not in told


def test_an_upload_of_15_mb_arrives_whole(address: str) -> None:
    answer = ask(address, "/echo", body=b"x" * UPLOAD, timeout=60)
    assert answer.json()["length"] == UPLOAD


def test_an_upgrade_is_passed_on_and_asked_for_only_by_the_client(address: str) -> None:
    asked = ask(address, "/echo", headers={"Connection": "Upgrade", "Upgrade": "websocket"}).json()["headers"]
    assert (asked["Connection"], asked["Upgrade"]) == ("upgrade", "websocket")
    plain = ask(address, "/echo").json()["headers"]
    assert "Upgrade" not in plain
    assert plain["Connection"] == "close"


def test_the_lines_of_the_guide_take_the_clients_address_from_nginx_alone(
    module_hosts: MakeHosts, tmp_path: Path
) -> None:
    guide = (ROOT / "docs/SERVICE.md").read_text()
    (lines,) = re.findall(r"```python\n(import os\nfrom werkzeug.*?)```", guide, re.DOTALL)
    hosts = module_hosts()
    clone = put(make(tmp_path, hosts.inventory))
    clone.write("service/echo.py", f"{APP}\n{lines}")
    clone.done("deploy", "-H", hosts[0].name)
    told = ask(hosts[0].address, "/echo", headers={"X-Forwarded-For": "9.8.7.6"}).json()
    assert told["remote"] == hosts[0].network.address(1)
