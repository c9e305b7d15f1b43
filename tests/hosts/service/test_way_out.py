"""Ways out of a sandbox through programs that start others for a service, and the paths it can write."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clone import Clone, make
from tests.support.echo_service import APP, put
from tests.support.front_door import ask
from tests.support.hosts import Hosts, MakeHosts
from tests.support.suites import suites

ROUTES = """

import multiprocessing
import socket


def connected(path):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_UNIX, kind) as one:
            try:
                one.connect(path)
            except OSError:
                continue
            return True
    return False


@app.get("/sockets")
def sockets():
    places = [os.path.join(folder, name) for folder, _, names in os.walk("/run") for name in names]
    return {"are": [place for place in places if not os.path.isfile(place) and connected(place)]}


@app.get("/writable")
def writable():
    found = []
    for folder, _, _ in os.walk("/"):
        if not folder.startswith(("/proc", "/sys")) and os.access(folder, os.W_OK):
            found.append(folder)
    multiprocessing.Lock()
    return {"are": found, "shared": os.listdir("/dev/shm")}


@app.get("/address/<name>")
def address(name):
    return {"is": socket.gethostbyname(name)}
"""
# One answer for every name, at the address of systemd-resolved's stub.
DNS = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.53", 53))
while True:
    asked, client = server.recvfrom(512)
    end = asked.index(0, 12) + 5
    known = asked[end - 4 : end - 2] == bytes([0, 1])
    answer = bytes.fromhex("c00c000100010000003c0004c000024d") if known else b""
    head = asked[:2] + bytes.fromhex("818000010001" if known else "818000010000") + bytes(4)
    server.sendto(head + asked[12:end] + answer, client)
"""
# The system's bus, and the socket of a systemd of the service's own account, which would run any program for it.
MANAGER = """
set -eu
test -S /run/dbus/system_bus_socket
id=$(id -u myapp)
systemctl stop manager 2>/dev/null || :
rm -f /run/user/$id/systemd/private
install -d -o myapp -m 700 /run/user/$id /run/user/$id/systemd
systemd-run -q --collect --unit=manager -p User=myapp python3 -c "
import socket, time
one = socket.socket(socket.AF_UNIX)
one.bind('/run/user/$id/systemd/private')
one.listen()
time.sleep(600)"
until [ -S /run/user/$id/systemd/private ]; do sleep 0.05; done
"""
NEEDED = ("/run/systemd/notify", "/run/systemd/journal/", "/run/systemd/userdb/", "/run/systemd/resolve/")
TOLD = ("/run/systemd/io.system.ManagedOOM", "/run/systemd/io.systemd.ManagedOOM", "/run/systemd/netif/")
"""These start no program: they take a manager's report, or report the state of networks."""
OWN = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue")  # noqa: S108


FURTHER = pytest.mark.further("test_nobody_who_starts_programs_hears_the_service")
OWN_SUITE, *SISTERS = dict.fromkeys([None, *suites()])
SUITES = [OWN_SUITE, *SISTERS[:1], *(pytest.param(suite, marks=FURTHER) for suite in SISTERS[1:])]


@pytest.fixture(scope="module", params=SUITES, ids=str)
def shire(module_hosts: MakeHosts, request: pytest.FixtureRequest) -> Hosts:
    """A host of each systemd, with a bus and a systemd of the service's own account."""
    return module_hosts(1, request.param)


@pytest.mark.parametrize("needs", [[], ["network", "home", "gpu"]], ids=["closed", "open"])
def test_nobody_who_starts_programs_hears_the_service(shire: Hosts, tmp_path: Path, needs: list[str]) -> None:
    """Once: a service let logind start a systemd of its account, outside of its sandbox."""
    machine, clone = shire[0], deploy(shire, tmp_path, needs)
    assert machine.sh(MANAGER).returncode == 0
    clone.done("restart", "-H", machine.name)
    reached = ask(machine.address, "/sockets").json()["are"]
    assert [one for one in reached if not one.startswith((*NEEDED, *TOLD))] == []
    assert any(one.startswith("/run/systemd/journal/") for one in reached)


def test_it_writes_only_its_data_and_what_is_its_own(shire: Hosts, tmp_path: Path) -> None:
    machine = shire[0]
    machine.sh("touch /dev/shm/of-another")
    deploy(shire, tmp_path, [])
    found = ask(machine.address, "/writable").json()
    assert set(found["are"]) <= {"/var/lib/myapp", "/var/lib/myapp/home", "/var/cache/myapp", *OWN}
    assert found["shared"] == []
    verify = "systemd-analyze verify --man=no /etc/systemd/system/myapp*.service 2>&1"
    # Older ones do not know these two, and work without them.
    told = machine.sh(f"{verify} | grep -vE 'StopPropagatedFrom|PrivateIPC' | grep -iE 'unknown|invalid|ignor|parse'")
    assert told.stdout.decode() == ""


def test_names_are_still_resolved(shire: Hosts, tmp_path: Path) -> None:
    machine = shire[0]
    deploy(shire, tmp_path, ["network"])
    stub = "/run/systemd/resolve/stub-resolv.conf"
    machine.sh(f"mkdir -p /run/systemd/resolve; echo 'nameserver 127.0.0.53' >{stub}; ln -sf {stub} /etc/resolv.conf")
    answers = "until ss -Hlnu src 127.0.0.53 | grep -q .; do sleep 0.05; done"
    started = f"cat >/root/dns.py && systemd-run -q --unit=dns python3 /root/dns.py && {answers}"
    assert machine.sh(started, DNS.encode()).returncode == 0
    assert ask(machine.address, "/address/somewhere.example").json()["is"] == "192.0.2.77"


def deploy(shire: Hosts, folder: Path, needs: list[str]) -> Clone:
    """Deploy a service that tries its reach."""
    clone = put(make(folder, shire.inventory), needs=needs)
    clone.write("service/echo.py", f"{APP}{ROUTES}\n# {needs}\n")
    clone.done("deploy", "-H", shire[0].name)
    return clone
