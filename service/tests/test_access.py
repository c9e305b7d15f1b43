from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

Lines = Callable[[], list[dict[str, Any]]]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/healthz", 200), ("GET", "/nothing", 404), ("PUT", "/", 405), ("GET", "/crash", 500), ("HEAD", "/", 200)],
)
def test_one_request_is_logged_once(app: Flask, lines: Lines, method: str, path: str, status: int) -> None:
    app.add_url_rule("/crash", view_func=lambda: str(1 // 0), endpoint="crash")
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
