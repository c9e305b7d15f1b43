"""The keys of `nginx` in service.yaml, on a real host: each by a request that has another answer without it."""

from __future__ import annotations

import socket
import ssl
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
'''
GATEWAY = {"server_name": NAME, "timeout": 4}


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
