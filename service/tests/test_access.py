from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from flask import Flask, request
from flask.testing import FlaskClient

from service.app import access, auth, create_app

Lines = Callable[[], list[dict[str, Any]]]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/healthz", 200), ("GET", "/nothing", 404), ("PUT", "/", 405), ("GET", "/crash", 500), ("HEAD", "/", 200)],
)
def test_one_request_is_logged_once(app: Flask, lines: Lines, method: str, path: str, status: int) -> None:
    app.add_url_rule("/crash", view_func=auth.role(auth.OPEN)(lambda: str(1 // 0)), endpoint="crash")
    app.test_client().open(f"{path}?token=secret", method=method, environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
    (line,) = [line for line in lines() if line["logger"] == "access"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert re.fullmatch(r"[0-9a-f]{32}", line.pop("request_id"))
    assert 0 <= line.pop("ms") < 5000
    assert line == {
        "level": "info",
        "message": f"{method} {path} {status}",
        "logger": "access",
        "service": "myapp",
        "release": "0123456789ab",
        "method": method,
        "path": path,
        "status": status,
        "remote": "192.0.2.7",
    }


@pytest.mark.parametrize(("said", "kept"), [("live", True), ("green", True), ("", False), ("mine", False)])
def test_a_health_check_of_the_host_is_marked(client: FlaskClient, lines: Lines, said: str, kept: bool) -> None:
    client.get("/healthz", headers={"X-Loop-Check": said})
    assert [line.get("check") for line in lines()] == [said if kept else None]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("4bf92f3577b34da6a3ce929d0e0e4736", True),
        ("a.b_c-d9", True),
        ("short", False),
        ("x" * 65, False),
        ("with spaces", False),
        ('quote"and{brace}', False),
        ("abcdefgh\n", False),
        ("abcdefgh\x1b[2J", False),
        ("ünïcödé-id", False),
        ("", False),
    ],
)
def test_a_request_id_is_taken_over_when_well_formed(client: FlaskClient, lines: Lines, given: str, kept: bool) -> None:
    response = client.get("/healthz", environ_overrides={"HTTP_X_REQUEST_ID": given})
    used = response.headers["X-Request-ID"]
    assert (used == given) is kept
    assert [line["request_id"] for line in lines()] == [used]


@pytest.mark.parametrize(
    "hostile", ["a\nb", 'a","level":"critical', "\x00\x1b[31m\x7f", "\u202e\u2028", "\udcff", "x" * 9000]
)
def test_hostile_values_stay_in_their_line(client: FlaskClient, lines: Lines, hostile: str) -> None:
    raw = hostile.encode("utf-8", "surrogatepass").decode("latin-1")
    client.get("/", environ_overrides={"PATH_INFO": f"/{raw}", "HTTP_X_FORWARDED_FOR": raw, "REMOTE_ADDR": ""})
    (line,) = lines()
    assert (line["level"], line["status"]) == ("info", 404)
    assert len(line["path"]) < 700


def test_the_id_ends_with_its_request(client: FlaskClient, app: Flask, lines: Lines) -> None:
    client.get("/healthz")
    app.logger.warning("between requests")
    assert ["request_id" in line for line in lines()] == [True, False]


@pytest.mark.parametrize(
    ("setting", "remote", "scheme"),
    [(None, "192.0.2.7", "https"), ("0", "", "http"), ("1", "192.0.2.7", "https"), ("2", "203.0.113.9", "http")],
)
def test_only_so_many_proxies_are_believed(
    monkeypatch: pytest.MonkeyPatch, setting: str | None, remote: str, scheme: str
) -> None:
    if setting is not None:
        monkeypatch.setenv("TRUSTED_PROXIES", setting)
    app = create_app()

    @auth.role(auth.OPEN)
    def seen() -> dict[str, str | None]:
        return {"remote": request.remote_addr, "scheme": request.scheme, "host": request.host}

    app.add_url_rule("/seen", view_func=seen)
    given = {"X-Forwarded-For": "203.0.113.9, 192.0.2.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil"}
    answer = app.test_client().get("/seen", headers=given, environ_overrides={"REMOTE_ADDR": ""}).get_json()
    assert answer == {"remote": remote, "scheme": scheme, "host": "localhost"}


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/healthz", 200), ("/commands", 401), ("/nothing", 404)])
def test_every_answer_has_the_security_headers(client: FlaskClient, path: str, status: int) -> None:
    response = client.get(path)
    assert response.status_code == status
    assert {name: response.headers[name] for name in access.SECURITY} == access.SECURITY


def test_a_view_may_set_a_header_of_its_own(app: Flask) -> None:
    @auth.role(auth.OPEN)
    def kept() -> tuple[str, dict[str, str]]:
        return "", {"Cache-Control": "max-age=60"}

    app.add_url_rule("/kept", view_func=kept)
    assert app.test_client().get("/kept").headers.getlist("Cache-Control") == ["max-age=60"]


class Neighbour(BaseHTTPRequestHandler):
    """Another service: it answers with the request id that it was sent."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.headers.get("X-Request-ID", "none").encode())

    def log_message(self, *_arguments: object) -> None:
        """Log nothing."""


def test_every_call_to_another_service_has_the_id_of_its_request(app: Flask) -> None:
    with HTTPServer(("127.0.0.1", 0), Neighbour) as neighbour:
        Thread(target=neighbour.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{neighbour.server_port}/"

        @auth.role(auth.OPEN)
        def ask() -> str:
            with urllib.request.urlopen(address) as plain:
                first = plain.read().decode()
            with urllib.request.urlopen(urllib.request.Request(address)) as prepared:
                return f"{first} {prepared.read().decode()} {access.headers()['X-Request-ID']}"

        app.add_url_rule("/ask", view_func=ask)
        answer = app.test_client().get("/ask", headers={"X-Request-ID": "abcdefgh-1"})
        assert answer.text == "abcdefgh-1 abcdefgh-1 abcdefgh-1"
        with urllib.request.urlopen(address) as outside:
            assert outside.read() == b"none"
        assert access.headers() == {}
        neighbour.shutdown()
