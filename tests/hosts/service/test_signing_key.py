"""SECRET_KEY: made once for all hosts, the same on one that joins later, and rotated without the loss of a session."""

from __future__ import annotations

import http.client
import threading
from typing import Any

import pytest

from tests.support.clone import make
from tests.support.echo_service import APP, put
from tests.support.fleet import Fleet
from tests.support.hosts import MakeHosts

# A session of Flask's: a cookie that the application signs.
ROUTES = """
from flask import session

app.config["SECRET_KEY"] = os.environ["SECRET_KEY"]
app.config["SECRET_KEY_FALLBACKS"] = [os.environ[name] for name in ("SECRET_KEY_FALLBACKS",) if name in os.environ]


@app.get("/login")
def login():
    session["user"] = "sam"
    return {}


@app.get("/who")
def who():
    return {"user": session.get("user")}
"""
HOSTS = ("shire01", "shire02")


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    hosts = module_hosts(2)
    clone = put(make(tmp_path_factory.mktemp("key"), hosts.inventory), secrets=["SECRET_KEY"], nginx=None,
                listen="0.0.0.0:8080")  # fmt: skip
    clone.write("service/echo.py", APP + ROUTES)
    return Fleet(clone, hosts, [])


def get(fleet: Fleet, number: int, path: str, cookie: str = "") -> tuple[str, str]:
    """Ask one host; return the answer, and the cookie that it set."""
    connection = http.client.HTTPConnection(fleet.hosts[number].address, 8080, timeout=60)
    connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
    answer = connection.getresponse()
    body, given = answer.read().decode(), answer.getheader("Set-Cookie", "").partition(";")[0]
    connection.close()
    return body, given


def marks(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """Return the fingerprints of each host, by name of the secret."""
    hosts = fleet.clone.fab("secrets.list", "-H", "all", "--json").json()["hosts"]
    return {host["host"]: {one["name"]: one.get("fingerprint") for one in host["secrets"]} for host in hosts}


def test_the_first_deploy_makes_it_and_a_host_that_joins_gets_the_same(fleet: Fleet) -> None:
    ended = fleet.clone.done("deploy", "-H", "shire01")
    assert "plan      secret: SECRET_KEY, made now" in ended.out
    assert len(fleet.sh(0, "cat /etc/myapp/secrets/SECRET_KEY")) == 64
    assert "next setup or deploy brings it" in fleet.clone.fab("doctor", "-H", "shire02").out
    # While a host that has it does not answer, there is no second one.
    fleet.hosts[0].power_cut()
    refused = fleet.clone.fab("-t", "3", "deploy", "-H", "shire02")
    assert refused.status == 1
    assert "SECRET_KEY is not on this host, and shire01, which may have one, did not tell it" in refused.out
    assert fleet.hosts[1].sh("ls -d /etc/myapp /opt/apps").stdout == b""
    fleet.hosts[0].boot()
    assert "plan      secret: SECRET_KEY, as on shire01" in fleet.clone.done("deploy", "-H", "shire02").out
    found = marks(fleet)
    assert found["shire01"] == found["shire02"]
    assert "secret:" not in fleet.clone.done("deploy", "-H", "all").out


def test_a_rotation_loses_no_session_of_either_host(fleet: Fleet) -> None:
    before = fleet.sh(0, "cat /etc/myapp/secrets/SECRET_KEY")
    _, kept = get(fleet, 0, "/login")
    over, lost = threading.Event(), list[str]()

    def browse() -> None:
        """Log in on one host, and be known on both: a balancer sends each request anywhere."""
        while not over.wait(0.05):
            for number in (0, 1):
                _, cookie = get(fleet, number, "/login")
                answers = [get(fleet, other, "/who", one)[0] for other in (0, 1) for one in (cookie, kept)]
                lost.extend(answer for answer in answers if '"sam"' not in answer)

    client = threading.Thread(target=browse, daemon=True)
    client.start()
    try:
        ended = fleet.clone.done("secrets.rotate", "SECRET_KEY", "-H", "all")
    finally:
        over.set()
        client.join()
    assert lost == []
    assert ended.out.count("RESTARTED") == 4
    found = marks(fleet)
    assert found["shire01"] == found["shire02"]
    assert fleet.sh(1, "cat /etc/myapp/secrets/SECRET_KEY") != before
    assert fleet.sh(1, "cat /etc/myapp/secrets/SECRET_KEY_FALLBACKS") == before
    fleet.hosts[1].reboot()
    assert '"sam"' in get(fleet, 1, "/who", kept)[0]


def test_a_rotation_that_was_cut_between_two_hosts_goes_on_when_it_runs_again(fleet: Fleet) -> None:
    swap = "cd /etc/myapp/secrets && mv SECRET_KEY x && mv SECRET_KEY_FALLBACKS SECRET_KEY && mv x SECRET_KEY_FALLBACKS"
    fleet.sh(0, f"{swap} && touch SECRET_KEY")
    fleet.sh(1, "touch /etc/myapp/secrets/SECRET_KEY_FALLBACKS")
    fleet.clone.done("restart", "-H", "shire01")
    _, kept = get(fleet, 1, "/login")
    ended = fleet.clone.done("secrets.rotate", "SECRET_KEY", "-H", "all")
    assert ("1 of 2" in ended.out, ended.out.count("RESTARTED")) == (False, 1)
    assert '"sam"' in get(fleet, 1, "/who", kept)[0]
    found = marks(fleet)
    assert found["shire01"] == found["shire02"]


def test_only_this_key_can_be_rotated(fleet: Fleet) -> None:
    ended = fleet.clone.fab("secrets.rotate", "API_TOKEN", "-H", "all")
    assert (ended.status, "only SECRET_KEY can be rotated" in ended.err) == (2, True)
