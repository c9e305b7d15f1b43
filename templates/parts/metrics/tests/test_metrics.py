from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.app import auth, create_app

# A worker of the service: it answers a request for each line that it reads, and then waits.
WORKER = """
import sys
from service.app import create_app
client = create_app().test_client()
for line in sys.stdin:
    client.get(line.strip())
    print("done", file=sys.stderr, flush=True)
"""


def worker() -> subprocess.Popen[str]:
    pipe, root = subprocess.PIPE, Path(__file__).parents[2]
    null = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, "-c", WORKER], cwd=root, stdin=pipe, stdout=null, stderr=pipe, text=True)


def ask(of: subprocess.Popen[str], path: str) -> None:
    assert of.stdin
    assert of.stderr
    of.stdin.write(f"{path}\n")
    of.stdin.flush()
    assert of.stderr.readline() == "done\n"


def counted(client: FlaskClient, **labels: str) -> float:
    """Return the sum of http_requests_total over the lines that have these labels."""
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith("http_requests_total{")]
    return sum(float(line.split()[-1]) for line in lines if all(label in line for label in wanted))


def test_it_needs_a_token_of_a_reader(client: FlaskClient, client_with: Callable[[str], FlaskClient]) -> None:
    assert client.get("/metrics").status_code == 401
    answer = client_with("reader").get("/metrics")
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")


def test_every_request_is_counted_by_route_method_and_status(app: Flask, admin: FlaskClient) -> None:
    app.add_url_rule("/slow/<int:number>", view_func=auth.role(auth.OPEN)(lambda number: str(number)), endpoint="slow")
    for number in range(3):
        admin.get(f"/slow/{number}")
    admin.post("/slow/1")
    admin.open("/", method="INVENTED")
    for number in range(50):
        admin.get(f"/nothing/{number}")
    assert counted(admin, route="/slow/<int:number>", method="GET", status="200") == 3
    assert counted(admin, route="none", method="POST", status="405") == 1
    assert counted(admin, route="none", method="other", status="405") == 1
    assert counted(admin, route="none", method="GET", status="404") == 50
    text = admin.get("/metrics").text
    assert 'http_request_seconds_count{method="GET",route="/slow/<int:number>"} 3.0' in text
    assert "/nothing/7" not in text


@pytest.mark.parametrize(("said", "counts"), [("green", 0), ("mine", 1)])
def test_a_health_check_of_the_host_does_not_count(admin: FlaskClient, said: str, counts: int) -> None:
    admin.get("/healthz", headers={"X-Loop-Check": said})
    assert counted(admin, route="/healthz") == counts


def test_any_worker_shows_the_counts_of_all_and_none_falls_when_they_are_replaced(admin: FlaskClient) -> None:
    admin.get("/healthz")
    with worker() as first, worker() as second:
        ask(first, "/healthz")
        ask(second, "/healthz")
        assert counted(admin, route="/healthz") == 3
        first.kill()
        first.wait()
        assert counted(admin, route="/healthz") == 3
        with worker() as next_release:
            ask(next_release, "/healthz")
            ask(second, "/healthz")
            assert counted(admin, route="/healthz") == 5
            next_release.kill()
        second.kill()
    assert counted(admin, route="/healthz") == 5


def test_there_are_only_as_many_files_as_workers_at_once(admin: FlaskClient, state: Path) -> None:
    for _ in range(3):
        with worker() as one:
            ask(one, "/healthz")
            one.kill()
    assert len(list(state.glob("metrics/*/counter_*.db"))) <= 2
    assert counted(admin, route="/healthz") == 3


def test_a_full_disk_takes_the_metrics_and_not_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    client = create_app().test_client()
    assert (client.get("/readyz").status_code, client.get("/metrics").status_code) == (200, 404)


@pytest.mark.usefixtures("app")
def test_the_files_have_their_space_before_a_request(state: Path) -> None:
    files = list(state.glob("metrics/*/*.db"))
    assert len(files) == 2
    assert all(file.stat().st_blocks * 512 >= 1 << 20 for file in files)
