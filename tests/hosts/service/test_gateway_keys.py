"""The keys of `nginx` in service.yaml, on a real host: each by a request that has another answer without it."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.clone import Clone, make
from tests.support.echo_service import deployed
from tests.support.front_door import NAME, ask
from tests.support.hosts import Hosts, MakeHosts

PAGES = '''

from pathlib import Path

from flask import Response


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

@app.get("/end")
def end():
    os._exit(1)
'''
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
    clone.write("service/pages.py", f"from echo import *\nimport time\n{PAGES}")
    return deployed(clone, hosts, app="pages:app", nginx={**GATEWAY, **changes})


@contextmanager
def opened(address: str, request: str) -> Iterator[socket.socket]:
    """Send a request, and leave the connection open."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    wire = context.wrap_socket(socket.create_connection((address, 443), timeout=60), server_hostname=NAME)
    with wire:
        wire.sendall(f"{request}\r\nHost: {NAME}\r\n\r\n".encode())
        yield wire


def shown(address: str, name: str | None) -> str:
    """Return the names of the certificate that this name is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
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
    assert ask(address, "/slow/20.0", timeout=60).status == 504


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
    refused = clone.fab("setup", "-H", "shire01")
    assert refused.status == 1
    assert "/etc/myapp/nginx/extra.conf:1" in refused.both
    assert ask(address, "/extra").body == b"other"
    clone.write("nginx/extra.conf", "location = /extra { return 200 other; }\n")
    hosts[0].sh("echo '# edited' >>/etc/myapp/nginx/extra.conf")
    drift = clone.fab("drift", "-H", "shire01", "--as", "root")
    assert (drift.status, "EDITED  /etc/myapp/nginx/extra.conf" in drift.out) == (1, True)
    clone.done("setup", "-H", "shire01", "--overwrite")


def test_without_the_keys_their_files_go(hosts: Hosts, clone: Clone, address: str) -> None:
    names = [NAME, "www.myapp.example"]
    deployed(clone, hosts, app="pages:app", nginx={"server_name": names, "aliases": "serve"})
    assert hosts[0].sh("ls /etc/myapp/nginx").stdout == b""
    answer = ask(address, "/echo", "www.myapp.example")
    assert answer.json()["headers"]["Host"] == "www.myapp.example"
    assert "strict-transport-security" not in answer.headers
    clone.write("nginx/extra.conf", "")
    clone.done("remove", "-H", "shire01", "--yes", "--data")
    assert hosts[0].sh("ls -d /etc/myapp").stdout == b""
