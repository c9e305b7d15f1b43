"""The whole loop on each systemd, Python and nginx that the controller's distribution offers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.engine.sandbox import Machine
from tests.support import one_name
from tests.support.clone import Clone, make, quicken
from tests.support.front_door import NAME, ask, release_of, spoken
from tests.support.hosts import Hosts, MakeHosts
from tests.support.nginx_reload import reload_nginx
from tests.support.suites import suites

pytestmark = pytest.mark.long

NEIGHBOUR = """server {
    listen 443 ssl;
    server_name other.example;
    ssl_certificate /etc/myapp/tls/certificate.pem;
    ssl_certificate_key /etc/myapp/tls/key.pem;
    location / { return 200 other; }
}
"""


def check_http2(machine: Machine, suite: str | None) -> None:
    """Assert that nginx speaks HTTP/2 for our site, where it can without doing so for its neighbours."""
    machine.sh("cat >/etc/nginx/conf.d/other.conf", NEIGHBOUR.encode())
    reload_nginx(machine)
    known = machine.sh("nginx -v 2>&1 | grep -E '/1\\.(2[6-9]|[3-9])'").returncode == 0
    assert known == (suite == "trixie")
    assert spoken(machine.address, NAME) == ("h2" if known else "http/1.1")
    if known:
        asked = f"curl -sk --http2 -w '%{{http_version}} %{{http_code}}' --resolve {NAME}:443:127.0.0.1 -o /dev/null"
        assert machine.sh(f"{asked} https://{NAME}/healthz").stdout == b"2 200"
    assert spoken(machine.address, "other.example") == "http/1.1"
    machine.sh("rm /etc/nginx/conf.d/other.conf")
    reload_nginx(machine)


def check_path(fleet: Hosts, folder: Path) -> None:
    """Assert that two more services share a name, and what the first service speaks for itself."""
    address, shared = fleet[0].address, ["path.example", "www.path.example"]
    releases = {}
    for name in ("shop", "cart"):
        clone = make(folder / name, fleet.inventory)
        one_name.put(clone, name, server_name=shared).done("deploy", "-H", "shire01")
        assert clone.done("drift", "-H", "shire01").err == ""
        releases[name] = clone.release()
    for name, release in releases.items():
        one_name.check(address, name, release, shared[0])
    one_name.check_outside(address, shared[0])
    assert spoken(address, shared[0]) == spoken(address, NAME)
    clone.done("remove", "-H", "shire01", "--yes", "--data")
    one_name.check(address, "shop", releases["shop"], shared[0])


OLDEST, *NEWER = suites()
SUITES = [OLDEST, *(pytest.param(suite, marks=pytest.mark.further("test_the_whole_loop_runs")) for suite in NEWER)]


@pytest.mark.parametrize("suite", SUITES)
def test_the_whole_loop_runs(clone: Clone, hosts: MakeHosts, suite: str | None, tmp_path: Path) -> None:
    fleet = hosts(1, suite)
    machine = fleet[0]
    clone.inventory = fleet.inventory
    quicken(clone)
    clone.done("deploy", "-H", "shire01")
    first = clone.release()
    assert release_of(machine.address) == first

    check_http2(machine, suite)
    check_path(fleet, tmp_path)

    clone.write("service/changed.txt", "changed\n")
    clone.done("deploy", "-H", "shire01")
    second = clone.release()
    assert release_of(machine.address) == second != first
    clone.write("service/app/broken.py", "import nothing_of_that_name\n")
    clone.replace("service/app/__init__.py", "from flask import Flask", "from flask import Flask\nfrom . import broken")
    assert clone.fab("deploy", "-H", "shire01").status == 1
    assert release_of(machine.address) == second

    clone.done("rollback", "-H", "shire01")
    assert release_of(machine.address) == first
    machine.reboot()
    assert release_of(machine.address) == first
    clone.done("stop", "-H", "shire01")
    assert ask(machine.address).status == 502
    clone.done("start", "-H", "shire01")
    assert release_of(machine.address) == first
    security = machine.sh("systemd-analyze security --no-pager myapp@blue.service | tail -n 1").stdout.decode()
    assert float(security.split("myapp@blue.service:")[1].split()[0]) <= 1.0, security
    assert machine.sh("systemctl --failed --plain --no-legend").stdout == b""
