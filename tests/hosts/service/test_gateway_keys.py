"""The keys of `nginx` in service.yaml, on a real host: each by a request that has another answer without it."""

from __future__ import annotations

import base64
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority
from tests.support.clone import ROOT, Clone, make
from tests.support.echo_service import deployed, put
from tests.support.front_door import NAME, Answer, ask, trusting
from tests.support.hosts import Hosts, MakeHosts

PAGES = '''

from pathlib import Path

from flask import Response, url_for


@app.get("/heavy")
def heavy():
    answer = Response("<p>heavy</p>" * 1000, mimetype="text/html")
    for number in range(4):
        answer.set_cookie(f"session{number}", "x" * 3900)
    return answer


@app.get("/events")
def events():
    def told():
        yield "data: first\\n\\n"
        time.sleep(20)
        yield "data: second\\n\\n"
    return Response(told(), mimetype="text/event-stream")


@app.get("/go")
def go():
    Path(os.environ["STATE_DIRECTORY"], "go").touch()
    return "gone"


@app.get("/prompt")
def prompt():
    """Tell a word, and another one after /go. Too little in between to fill a buffer."""
    def told():
        yield "first "
        for _ in range(100):
            if Path(os.environ["STATE_DIRECTORY"], "go").exists():
                yield "second"
                break
            time.sleep(0.2)
            yield "."
    return Response(told(), mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})


class Socket:
    """A WebSocket that is open and says nothing for 20 seconds."""

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, environ, start):
        if environ["PATH_INFO"] != "/socket":
            return self.inner(environ, start)
        wire = environ["gunicorn.socket"]
        wire.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\nConnection: upgrade\\r\\nUpgrade: x\\r\\n\\r\\nopen")
        time.sleep(20)
        wire.sendall(b"second")
        return []


app.wsgi_app = Socket(app.wsgi_app)

@app.get("/where")
def where():
    return {"client": request.remote_addr, "here": url_for("where", _external=True)}


@app.get("/end")
def end():
    os._exit(1)
'''
# Of `ann`, the password `secret`.
USERS = "ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"
GATEWAY = {
    "server_name": [NAME, "www.myapp.example", "*.apps.example"],
    "timeout": 4,
    "hsts": 63072000,
    "error_page": "pages/502.html",
    "extra": "nginx/extra.conf",
}


@pytest.fixture(scope="module")
def hosts(module_hosts: MakeHosts) -> Hosts:
    """One host for this module."""
    return module_hosts()


@pytest.fixture(scope="module")
def clone(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone whose service is behind nginx with most of the keys."""
    return served(make(tmp_path_factory.mktemp("keys")), hosts)


@pytest.fixture(scope="module")
def address(hosts: Hosts, clone: Clone) -> str:
    """The address of the host that serves it."""
    assert clone.inventory
    return hosts[0].address


def served(clone: Clone, hosts: Hosts, **changes: object) -> Clone:
    """Deploy the service with these keys of `nginx` beside the usual ones."""
    clone.write("pages/502.html", "<p>We are back soon.</p>")
    clone.write("nginx/extra.conf", "location = /extra { return 200 $host; }\n")
    (guide,) = re.findall(
        r"```python\n(import os\nfrom werkzeug.*?)```", (ROOT / "docs/SERVICE.md").read_text(), re.DOTALL
    )
    clone.write("service/pages.py", f"from echo import *\nimport time\n{PAGES}\n{guide}")
    # Each silent request keeps a thread for 20 seconds; a worker whose threads are all taken lets the next ones wait.
    threads = {"web": {"workers": 2, "threads": 16}}
    return deployed(clone, hosts, app="pages:app", processes=threads, nginx={**GATEWAY, **changes})


def refused(clone: Clone, **changes: object) -> str:
    """Set up with lines that nginx refuses; return the output."""
    clone.write("nginx/bad.conf", "nonsense;\n")
    before = clone.root / "service/service.yaml"
    text = before.read_text()
    put(clone, app="pages:app", nginx={**GATEWAY, **changes})
    ended = clone.fab("setup", "-H", "shire01")
    before.write_text(text)
    assert ended.status == 1
    return ended.both


@contextmanager
def opened(address: str, request: str) -> Iterator[socket.socket]:
    """Send a request, and leave the connection open."""
    context = trusting()
    wire = context.wrap_socket(socket.create_connection((address, 443), timeout=60), server_hostname=NAME)
    with wire:
        wire.sendall(f"{request}\r\nHost: {NAME}\r\n\r\n".encode())
        yield wire


def shown(address: str, name: str | None) -> str:
    """Return the names of the certificate that this name is shown."""
    context = trusting()
    with context.wrap_socket(socket.create_connection((address, 443), timeout=30), server_hostname=name) as wire:
        data = wire.getpeercert(True) or b""
    words = ["openssl", "x509", "-inform", "DER", "-noout", "-ext", "subjectAltName"]
    return subprocess.run(words, input=data, capture_output=True, check=True).stdout.decode()


def until(wire: socket.socket, word: bytes) -> bytes:
    """Return what arrives up to this word, or all of it."""
    told = b""
    while word not in told and (data := wire.recv(65536)):
        told += data
    return told


def test_a_request_ends_at_timeout(address: str) -> None:
    answer = ask(address, "/slow/20.0", timeout=60)
    assert (answer.status, answer.body) == (504, b"<p>We are back soon.</p>")


@pytest.mark.parametrize(
    ("request_line", "first"),
    [
        ("GET /events HTTP/1.1\r\nConnection: close", b"data: first"),
        ("GET /socket HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket", b"open"),
    ],
    ids=["events", "websocket"],
)
def test_a_silent_stream_ends_at_timeout(address: str, request_line: str, first: bytes) -> None:
    with opened(address, request_line) as wire:
        told = until(wire, b"second")
        assert first in told
        assert b"second" not in told


def test_a_word_of_a_stream_that_says_so_arrives_while_the_stream_goes_on(address: str) -> None:
    with opened(address, "GET /prompt HTTP/1.1\r\nConnection: close") as wire:
        until(wire, b"first")
        assert ask(address, "/go").status == 200
        assert b"second" in until(wire, b"second")


def test_headers_of_16_kb_pass_and_a_page_is_not_compressed(address: str) -> None:
    answer = ask(address, "/heavy", headers={"Accept-Encoding": "gzip"})
    assert answer.status == 200
    assert "content-encoding" not in answer.headers


def test_another_name_is_redirected_and_a_wildcard_is_served_under_its_own(address: str) -> None:
    for port in (80, 443):
        answer = ask(address, "/healthz?a=b", "www.myapp.example", port)
        assert (answer.status, answer.headers["location"]) == (301, f"https://{NAME}/healthz?a=b")
    answer = ask(address, "/healthz", "one.apps.example", 80)
    assert answer.headers["location"] == "https://one.apps.example/healthz"
    assert ask(address, "/echo", "one.apps.example").json()["headers"]["Host"] == "one.apps.example"
    for name in ("apps.example", "other.myapp.example"):
        with pytest.raises(ConnectionError):
            ask(address, name=name)
    for name in (NAME, "www.myapp.example", "one.apps.example"):
        assert "DNS:myapp.example, DNS:www.myapp.example, DNS:*.apps.example" in shown(address, name)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [("/healthz", {}, 200), ("/nothing-here", {}, 404), ("/echo", {"Content-Length": "40000000"}, 413)],
    ids=["answer", "error of the service", "error of nginx"],
)
def test_browsers_are_told_to_stay_with_https(address: str, path: str, headers: dict[str, str], status: int) -> None:
    answer = ask(address, path, headers=headers)
    assert answer.status == status
    assert answer.headers["strict-transport-security"] == "max-age=63072000"


def test_a_service_that_does_not_answer_is_excused_by_its_own_page(address: str) -> None:
    answer = ask(address, "/end")
    assert (answer.status, answer.body) == (502, b"<p>We are back soon.</p>")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"


def test_lines_of_the_operators_own_are_served_and_their_file_is_roots(hosts: Hosts, address: str) -> None:
    assert ask(address, "/extra").body == NAME.encode()
    told = hosts[0].sh("stat -c '%n %a %U' /etc/myapp/nginx/*").stdout.decode()
    assert told == "/etc/myapp/nginx/error.html 644 root\n/etc/myapp/nginx/extra.conf 600 root\n"


def test_another_text_of_a_file_needs_setup_and_nginx_decides(hosts: Hosts, clone: Clone, address: str) -> None:
    assert "setup (needs root)" not in clone.done("plan", "-H", "shire01").out
    clone.write("nginx/extra.conf", "location = /extra { return 200 other; }\n")
    planned = clone.done("plan", "-H", "shire01").out
    assert "setup (needs root)" in planned
    assert "write /etc/myapp/nginx/extra.conf" in planned
    clone.done("setup", "-H", "shire01")
    assert ask(address, "/extra").body == b"other"
    clone.write("nginx/extra.conf", "lcoation = /extra { }\n")
    ended = clone.fab("setup", "-H", "shire01")
    assert ended.status == 1
    assert "/etc/myapp/nginx/extra.conf:1" in ended.both
    assert ask(address, "/extra").body == b"other"
    clone.write("nginx/extra.conf", "location = /extra { return 200 other; }\n")
    hosts[0].sh("echo '# edited' >>/etc/myapp/nginx/extra.conf")
    drift = clone.fab("drift", "-H", "shire01", "--as", "root")
    assert (drift.status, "EDITED  /etc/myapp/nginx/extra.conf" in drift.out) == (1, True)
    clone.done("setup", "-H", "shire01", "--overwrite")


@pytest.fixture(scope="module")
def closed(hosts: Hosts, clone: Clone, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority whose certificates let a client in, of a service that is closed in every way."""
    authority = Authority(tmp_path_factory.mktemp("clients"))
    authority.issue(authority.folder / "ann.pem", authority.folder / "ann.key", "ann.example")
    clone.write("tls/clients.pem", authority.certificate.read_text())
    clone.write("users.htpasswd", USERS)
    (clone.root / "users.htpasswd").chmod(0o600)
    # The host's own check comes from 127.0.0.1, without a password and without a certificate.
    served(
        clone, hosts, allow=[hosts[0].network.address(1)], basic_auth="users.htpasswd", client_ca="tls/clients.pem",
        rate={"requests": "1000/s"}, balancer_check=True,
    )  # fmt: skip
    return authority


def test_only_clients_with_a_certificate_and_a_password_are_let_in(closed: Authority, address: str) -> None:
    ann = closed.folder / "ann.pem", closed.folder / "ann.key"
    stranger = Authority(closed.folder / "other")
    stranger.issue(stranger.folder / "eve.pem", stranger.folder / "eve.key", "eve.example")
    eve = stranger.folder / "eve.pem", stranger.folder / "eve.key"
    known = {"Authorization": f"Basic {base64.b64encode(b'ann:secret').decode()}", "X-Client-Subject": "CN=eve"}
    assert ask(address, "/echo", headers=known).status == 403
    assert ask(address, "/echo", headers=known, identity=eve).status == 400
    assert ask(address, "/echo", identity=ann).status == 401
    answer = ask(address, "/echo", headers=known, identity=ann)
    assert answer.json()["headers"]["X-Client-Subject"] == "CN=ann.example"


# First of its port, so the sessions of all sites there are its own; a client's certificate may be of another CA.
ELSEWHERE = """server {
    listen 443 ssl default_server;
    server_name elsewhere.example;
    ssl_certificate /etc/myapp/tls/certificate.pem;
    ssl_certificate_key /etc/myapp/tls/key.pem;
    ssl_client_certificate /etc/nginx/elsewhere.pem;
    ssl_verify_client optional;
    location / { return 200 $ssl_client_verify; }
}
"""


class MutualTls:
    """A client with a certificate and a password, which keeps its session."""

    def __init__(self, address: str, folder: Path, version: ssl.TLSVersion) -> None:
        self._address = address
        self._context = trusting()
        self._context.minimum_version = self._context.maximum_version = version
        self._context.load_cert_chain(folder / "ann.pem", folder / "ann.key")

    def ask(self, host: str, sni: str | None, session: ssl.SSLSession | None = None) -> tuple[int, bool, Any]:
        """Return the status, whether the session was resumed, and the session."""
        raw = socket.create_connection((self._address, 443), timeout=60)
        password = base64.b64encode(b"ann:secret").decode()
        with self._context.wrap_socket(raw, server_hostname=sni, session=session) as wire:
            head = f"GET / HTTP/1.1\r\nHost: {host}\r\nAuthorization: Basic {password}\r\nConnection: close\r\n\r\n"
            wire.sendall(head.encode())
            told = until(wire, b"\r\n\r\n")
            return int(told.split()[1]), bool(wire.session_reused), wire.session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_certificate_or_session_of_another_site_lets_a_client_in(
    closed: Authority, hosts: Hosts, address: str, version: ssl.TLSVersion
) -> None:
    """A session carries the verdict on a certificate, whichever CA gave it, and outlives a change of the CA."""
    ann = MutualTls(address, closed.folder, version)
    status, _, session = ann.ask(NAME, NAME)
    assert (status, ann.ask(NAME, NAME, session)[:2]) == (404, (404, False))
    stranger = Authority(closed.folder / "stranger")
    stranger.issue(stranger.folder / "ann.pem", stranger.folder / "ann.key", "eve.example")
    eve = MutualTls(address, stranger.folder, version)
    here = "/etc/nginx/elsewhere.pem", "/etc/nginx/conf.d/aaa.conf"
    try:
        for path, text in zip(here, (stranger.certificate.read_text(), ELSEWHERE), strict=True):
            hosts[0].sh(f"cat >{path}", stdin=text.encode())
        hosts[0].sh("nginx -t && systemctl restart nginx")
        assert ann.ask(NAME, NAME)[0] == 404
        status, _, session = eve.ask("elsewhere.example", "elsewhere.example")
        assert status == 200
        assert eve.ask("elsewhere.example", "elsewhere.example", session)[:2] == (200, True)
        for kept in (None, session):
            assert eve.ask(NAME, None, kept)[0] in {403, 421}
    finally:
        hosts[0].sh(f"rm -f {' '.join(here)} && systemctl restart nginx")


def check_as_balancer(address: str, tls: bool) -> None:
    """Assert that the health path gives a bare status under the host's address and no name, and nothing else does."""
    for port in (80, 443) if tls else (80,):
        answer = ask(address, "/healthz?x=1", address, port)
        assert (answer.status, answer.body) == (200, b"")
        with pytest.raises(ConnectionError):
            ask(address, "/echo", address, port)
    with socket.create_connection((address, 80), timeout=60) as wire:
        wire.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert until(wire, b"nothing").startswith(b"HTTP/1.1 200 ")


def test_a_balancer_that_asks_for_an_address_is_told_the_bare_status(
    closed: Authority, hosts: Hosts, clone: Clone, address: str
) -> None:
    assert closed
    check_as_balancer(address, tls=True)
    assert ask(address, "/healthz", port=80).status == 200
    clone.done("maintenance", "on", "-H", "shire01")
    assert [ask(address, "/healthz", address, port).status for port in (80, 443)] == [503, 503]
    # A client without a certificate.
    assert ask(address, "/echo").status == 503
    clone.done("maintenance", "off", "-H", "shire01")
    clone.done("stop", "-H", "shire01")
    answer = ask(address, "/healthz", address, 80)
    assert (answer.status, answer.body) == (503, b"")
    clone.done("start", "-H", "shire01")
    assert hosts[0].sh("grep -c server_name /etc/myapp/nginx/addresses.conf").stdout == b"1\n"


def test_passwords_are_for_root_and_nginx_and_no_plan_shows_them(
    closed: Authority, hosts: Hosts, clone: Clone, address: str
) -> None:
    told = hosts[0].sh("stat -c '%a %U %G' /etc/myapp/nginx/users").stdout
    assert told == b"640 root www-data\n"
    clone.write("users.htpasswd", f"{USERS}bob:{{SHA}}eW91IGNhbm5vdCBndWVzcyB0aGlz\n")
    planned = clone.done("plan", "-H", "shire01")
    assert "write /etc/myapp/nginx/users" in planned.out
    assert "eW91IGNhbm5vdCBndWVzcyB0aGlz" not in planned.both
    assert "/etc/myapp/nginx/extra.conf:1" in refused(clone, allow=["192.0.2.1"], extra="nginx/bad.conf")
    # The former files came back, for nginx's workers, too.
    assert hosts[0].sh("stat -c '%a %U %G' /etc/myapp/nginx/users").stdout == told
    ann = closed.folder / "ann.pem", closed.folder / "ann.key"
    assert ask(address, "/echo", identity=ann).status == 401


def test_a_client_from_elsewhere_is_refused(closed: Authority, hosts: Hosts, clone: Clone, address: str) -> None:
    assert closed
    served(clone, hosts, allow=["192.0.2.0/24", "2001:db8::/32"])
    assert ask(address).status == 403


@pytest.fixture(scope="module")
def balanced(hosts: Hosts, clone: Clone) -> str:
    """The address of a service behind a balancer that has the TLS: this machine is the balancer."""
    served(
        clone, hosts, tls="off", hsts=None, allow=["203.0.113.0/24"], trusted_proxies=[hosts[0].network.address(1)],
        rate={"requests": "1/m", "burst": 2}, balancer_check=True,
    )  # fmt: skip
    return hosts[0].address


def through(balanced: str, client: str, path: str = "/where", name: str = NAME, scheme: str = "https") -> Answer:
    """Ask as the balancer does for a client."""
    headers = {"X-Forwarded-For": client, "X-Forwarded-Proto": scheme}
    return ask(balanced, path, name, 80, headers=headers)


def test_a_balancer_without_tls_asks_for_an_address(balanced: str) -> None:
    check_as_balancer(balanced, tls=False)


def test_a_second_service_that_answers_under_the_address_is_refused(
    balanced: str, hosts: Hosts, tmp_path: Path
) -> None:
    other = put(
        make(tmp_path, hosts.inventory), name="other",
        nginx={"server_name": "other.example", "tls": "off", "balancer_check": True},
    )  # fmt: skip
    ended = other.fab("setup", "-H", "shire01")
    assert ended.status == 1
    assert "so balancer_check cannot" in ended.both
    check_as_balancer(balanced, tls=False)


def test_behind_a_balancer_the_service_sees_the_clients_address_and_scheme(balanced: str) -> None:
    told = through(balanced, "203.0.113.9").json()
    assert told == {"client": "203.0.113.9", "here": f"https://{NAME}/where"}
    assert through(balanced, "203.0.113.9", scheme="http").json()["here"] == f"http://{NAME}/where"
    answer = through(balanced, "203.0.113.10", "/a?b", "www.myapp.example")
    assert answer.headers["location"] == f"https://{NAME}/a?b"


@pytest.mark.parametrize("client", ["198.51.100.1", "203.0.113.9, 198.51.100.1", ""])
def test_the_client_is_the_last_one_that_is_no_proxy_of_ours(balanced: str, client: str) -> None:
    assert through(balanced, client).status == 403


def test_a_client_that_asks_too_often_is_told_when_to_come_again(balanced: str) -> None:
    answers = [through(balanced, "203.0.113.77") for _ in range(5)]
    assert [answer.status for answer in answers[:3]] == [200] * 3
    limited = answers[-1]
    assert (limited.status, limited.headers["retry-after"]) == (429, "60")
    assert limited.headers["content-type"] == "application/problem+json"
    assert (limited.json()["status"], limited.json()["detail"]) == (429, "Try again in 60 s.")
    assert through(balanced, "203.0.113.78").status == 200


def test_without_the_keys_their_files_go(balanced: str, hosts: Hosts, clone: Clone, address: str) -> None:
    assert balanced == address
    names = [NAME, "www.myapp.example"]
    rate = {"requests": "1/m", "burst": 0}
    deployed(clone, hosts, app="pages:app", nginx={"server_name": names, "aliases": "serve", "rate": rate})
    assert hosts[0].sh("ls /etc/myapp/nginx").stdout == b""
    answer = ask(address, "/echo", "www.myapp.example")
    assert answer.json()["headers"]["Host"] == "www.myapp.example"
    assert "strict-transport-security" not in answer.headers
    # A local user has many addresses.
    asked = f"curl -sk -o /dev/null -w '%{{http_code}} ' -H 'Host: {NAME}' https://127.0.0.1/echo --interface"
    assert hosts[0].sh(f"{asked} 127.0.0.1; {asked} 127.0.0.2").stdout == b"200 429 "
    clone.write("nginx/extra.conf", "")
    clone.done("remove", "-H", "shire01", "--yes", "--data")
    assert hosts[0].sh("ls -d /etc/myapp").stdout == b""
