from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVICE = Path(__file__).parents[1]


class OverSocket(http.client.HTTPConnection):
    """HTTP over a Unix socket, as nginx speaks it."""

    def __init__(self, path: str) -> None:
        super().__init__("myapp.example", timeout=20)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket instead of the host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self.path)


@pytest.fixture
def socket_path() -> Iterator[str]:
    """Make a path short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="service") as directory:
        yield f"{directory}/http.sock"


def gunicorn(*arguments: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "gunicorn", "-k", "gthread", "--workers", "2", "--threads", "2", *arguments]
    return subprocess.Popen(
        [*argv, "app:create_app()"], cwd=SERVICE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_under_gunicorn_everything_is_logged_once_and_as_json(socket_path: str) -> None:
    # The one that answers: another could lose the signal while it starts, and would be waited for.
    with gunicorn("--bind", f"unix:{socket_path}", "--workers", "1") as server:
        assert server.stdout
        started: list[str] = []
        while not any("Listening at" in line for line in started):
            started.append(server.stdout.readline())
            assert started[-1], "gunicorn ended before it listened"
        connection = OverSocket(socket_path)
        connection.request("GET", "/healthz", headers={"X-Request-ID": "abcdefgh-1", "X-Forwarded-For": "192.0.2.7"})
        answer = json.loads(connection.getresponse().read())
        connection.close()
        server.terminate()
        rest, complaints = server.communicate(timeout=60)
    lines = [json.loads(line) for line in [*started, *rest.splitlines()]]
    assert (answer["status"], answer["release"]) == ("ok", "0123456789ab")
    assert [(line["remote"], line["status"]) for line in lines if "request_id" in line] == [("192.0.2.7", 200)]
    assert {line["release"] for line in lines} == {"0123456789ab"}
    assert complaints == ""


def test_a_wrong_setting_is_said_once_and_no_worker_starts(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "many")
    with gunicorn("--bind", f"unix:{socket_path}", "--workers", "4") as server:
        said, complaints = server.communicate(timeout=60)
    lines = [json.loads(line) for line in said.splitlines()]
    assert (server.returncode, complaints) == (4, "")
    assert [line["message"] for line in lines if line["level"] != "info"] == [
        "TRUSTED_PROXIES must be a whole number from 0 to 10, not 'many'"
    ]
    assert not [line for line in lines if "Booting worker" in line["message"]]


def test_a_command_that_may_take_too_long_stops_the_start(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUEST_TIMEOUT", "1")
    with gunicorn("--bind", f"unix:{socket_path}", "--workers", "1") as server:
        said, _complaints = server.communicate(timeout=60)
    lines = [json.loads(line) for line in said.splitlines()]
    assert (server.returncode, any("traceback" in line for line in lines)) == (4, False)
    (told,) = [line["message"] for line in lines if line["level"] == "critical"]
    assert told == "the timeout of disk-usage, 5, must be less than REQUEST_TIMEOUT, 1"


def test_flask_finds_the_application_too() -> None:
    routes = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", "routes"],
        cwd=SERVICE,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "/readyz" in routes.stdout
