"""The reach of a service with each `needs`, tried from inside it, and fab's message where a host cannot enforce it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.engine.sandbox import machine as machines
from tests.support.clone import Clone, make
from tests.support.echo_service import APP, put
from tests.support.front_door import ask
from tests.support.hosts import Hosts, MakeHosts

UNIT = "/etc/systemd/system/myapp@.service"
PORT = 9999
# Tries to connect and reports the result; as a program it writes it to the state directory.
REACH = """
import ctypes, json, os, socket, sys


def tried(address, port):
    try:
        with socket.create_connection((address, int(port)), timeout=1):
            return "reached"
    except OSError as error:
        return type(error).__name__


def called(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    return "there" if libc.syscall(number, *arguments) >= 0 else os.strerror(ctypes.get_errno())


def closed_calls():
    # io_uring_setup, and userfaultfd for faults of the process itself, which every kernel allows.
    return [called(425, 1, ctypes.create_string_buffer(120)), called({"x86_64": 323}.get(os.uname().machine, 282), 1)]


if __name__ == "__main__":
    name, address, port = sys.argv[1:]
    found = {"loopback": tried("127.0.0.1", 9999), "outside": tried(address, port)}
    with open(os.environ["STATE_DIRECTORY"] + "/" + name, "w") as file:
        json.dump(found, file)
"""
ROUTES = """

import reach


@app.get("/reach/<address>/<int:port>")
def reached(address, port):
    return {"is": reach.tried(address, port)}


@app.get("/closed")
def closed_calls():
    return {"is": reach.closed_calls()}
"""


@pytest.fixture(scope="module")
def shire(module_hosts: MakeHosts) -> Hosts:
    """A host with a listener at 127.0.0.1."""
    hosts = module_hosts()
    listen(hosts)
    return hosts


def listen(hosts: Hosts) -> None:
    started = hosts[0].sh(f"systemd-run -q --unit=local python3 -m http.server --bind 127.0.0.1 {PORT}")
    assert started.returncode == 0
    assert hosts[0].sh(f"until ss -Hltn 'sport = :{PORT}' | grep -q .; do sleep 0.05; done").returncode == 0


@pytest.fixture(scope="module")
def working(shire: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone whose service reports its reach."""
    clone = make(tmp_path_factory.mktemp("isolation"), shire.inventory)
    clone.write("service/reach.py", REACH)
    return clone


@pytest.fixture(scope="module")
def outside(shire: Hosts) -> Iterator[tuple[str, int]]:
    """A listener on another machine: this one, from its hosts."""
    with socket.create_server((shire[0].network.address(1), 0)) as server:
        yield server.getsockname()[:2]


def describe(clone: Clone, needs: list[str], outside: tuple[str, int]) -> Clone:
    """Describe a service with a worker, a job and a hook."""
    put(clone)
    address, port = outside
    command = f"{{}} {address} {port}"
    put(
        clone,
        needs=needs,
        processes={
            "worker": {"command": f"sh -c 'python reach.py {command.format('worker')}; exec sleep infinity'"},
            "nightly": {"command": f"python reach.py {command.format('nightly')}", "schedule": "*-*-* 03:00:00"},
        },
        hooks={"before_activate": f"python reach.py {command.format('hook')}"},
    )
    clone.write("service/echo.py", f"{APP}{ROUTES}\n# {needs}\n")
    return clone


def reach_of_units(hosts: Hosts, outside: tuple[str, int]) -> dict[str, dict[str, str]]:
    """Return the reach of each unit of the service."""
    machine, (address, port) = hosts[0], outside
    machine.sh("systemctl start myapp-nightly.service")
    web = {
        name: ask(machine.address, f"/reach/{place}").json()["is"]
        for name, place in {"loopback": f"127.0.0.1/{PORT}", "outside": f"{address}/{port}"}.items()
    }
    found = {"web": web}
    for name in ("worker", "nightly", "hook"):
        text = machine.sh(f"until [ -s /var/lib/myapp/{name} ]; do sleep 0.05; done; cat /var/lib/myapp/{name}").stdout
        found[name] = json.loads(text)
    machine.sh("rm -f /var/lib/myapp/worker /var/lib/myapp/nightly /var/lib/myapp/hook")
    return found


@pytest.mark.parametrize(
    ("needs", "loopback", "beyond"),
    [
        ([], False, False),
        pytest.param(
            ["host"],
            True,
            False,
            marks=pytest.mark.further("test_every_unit_of_a_service_reaches_what_its_needs_open_and_no_more"),
        ),
        (["network"], True, True),
    ],
)
def test_every_unit_of_a_service_reaches_what_its_needs_open_and_no_more(
    working: Clone, shire: Hosts, outside: tuple[str, int], needs: list[str], loopback: bool, beyond: bool
) -> None:
    shire[0].sh("rm -f /var/lib/myapp/*")
    describe(working, needs, outside).done("deploy", "-H", "shire01")
    for name, found in reach_of_units(shire, outside).items():
        assert (found["loopback"] == "reached", found["outside"] == "reached") == (loopback, beyond), (name, found)
    # doctor leaves none of this to the operator.
    told = working.done("doctor", "-H", "shire01").out
    assert told.startswith("shire01  ready\n")


def test_io_uring_and_userfaultfd_are_closed(working: Clone, shire: Hosts, outside: tuple[str, int]) -> None:
    describe(working, [], outside).done("deploy", "-H", "shire01")
    assert ask(shire[0].address, "/closed").json()["is"] == ["Operation not permitted"] * 2


def test_data_of_a_former_version_is_closed_to_others_at_the_next_start(
    working: Clone, shire: Hosts, outside: tuple[str, int]
) -> None:
    machine = shire[0]
    describe(working, [], outside).done("deploy", "-H", "shire01")
    machine.sh("mkdir /var/lib/myapp/media && echo kept >/var/lib/myapp/media/one && chown -R myapp: /var/lib/myapp")
    machine.sh("chmod 755 /var/lib/myapp")
    working.done("restart", "-H", "shire01")
    assert machine.sh("stat -c '%a %U' /var/lib/myapp; cat /var/lib/myapp/media/one").stdout == b"700 myapp\nkept\n"
    assert machine.sh("runuser -u deploy -- ls /var/lib/myapp").returncode != 0


def test_a_service_that_may_rely_on_loopback_is_told_before_setup_takes_it(
    working: Clone, shire: Hosts, outside: tuple[str, int]
) -> None:
    machine = shire[0]
    describe(working, [], outside).done("deploy", "-H", "shire01")
    # As a former version wrote it.
    machine.sh(f"sed -i /PrivateNetwork/d {UNIT}; systemctl daemon-reload")
    told = "write `needs: [host]` into service.yaml first"
    for verb in ("plan", "doctor"):
        assert told in working.done(verb, "-H", "shire01").out
    for needs in (["host"], ["network"]):
        assert told not in describe(working, needs, outside).done("plan", "-H", "shire01").out
    assert told in describe(working, [], outside).done("setup", "-H", "shire01", "--overwrite").out
    assert told not in working.done("setup", "-H", "shire01").out


def test_doctor_sees_a_service_that_has_the_hosts_network_all_the_same(
    working: Clone, shire: Hosts, outside: tuple[str, int]
) -> None:
    machine = shire[0]
    describe(working, [], outside).done("deploy", "-H", "shire01")
    machine.sh(f"mkdir {UNIT}.d && printf '[Service]\\nPrivateNetwork=no\\n' >{UNIT}.d/open.conf")
    machine.sh("systemctl daemon-reload")
    working.done("restart", "-H", "shire01")
    assert "the service reaches the networks of this host" in working.done("doctor", "-H", "shire01").out
    machine.sh(f"rm -r {UNIT}.d; systemctl daemon-reload")
    working.done("restart", "-H", "shire01")
    assert working.done("doctor", "-H", "shire01").out.startswith("shire01  ready\n")


def test_doctor_says_where_addresses_are_not_filtered(
    clone: Clone, hosts: MakeHosts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A host whose systemd may load no BPF program, as in most containers."""
    boot = tmp_path / "boot.sh"
    boot.write_text(machines.BOOT.read_text().replace(" --system-call-filter=bpf", ""))
    boot.chmod(0o755)
    monkeypatch.setattr(machines, "BOOT", boot)
    fleet = hosts()
    clone.inventory = fleet.inventory
    clone.write("service/reach.py", REACH)
    name = fleet[0].name
    with socket.create_server((fleet[0].network.address(1), 0)) as server:
        address, port = server.getsockname()
        describe(clone, ["host"], (address, port)).done("deploy", "-H", name)
        assert ask(fleet[0].address, f"/reach/{address}/{port}").json()["is"] == "reached"
        assert "`needs: [host]` opens all networks here" in clone.done("doctor", "-H", name).out
        describe(clone, [], (address, port)).done("deploy", "-H", name)
        assert ask(fleet[0].address, f"/reach/{address}/{port}").json()["is"] != "reached"
        assert clone.done("doctor", "-H", name).out.startswith(f"{name}  ready\n")
