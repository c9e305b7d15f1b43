"""The sandbox of every unit: its rating by systemd, its own shared memory, and the error that each `needs` answers."""

from __future__ import annotations

import re

import pytest

from tests.support.clone import Clone, make
from tests.support.echo_service import deployed, put
from tests.support.hosts import Hosts

UNITS = ("myapp@blue", "myapp-worker@blue", "myapp-nightly", "myapp-hook@blue", "myapp-run@0", "myapp-run-health@0")
LISTENS = "127.0.0.1:8086"
PROCESSES = {
    "worker": {"command": "sleep 100000"},
    "nightly": {"command": "true", "schedule": "*-*-* 03:00:00"},
}
# As root on the host: a segment of System V that is there for all, and a device.
PREPARE = "ipcmk -M 4096 -p 0666 >/root/segment && mkdir -p /home/ann && touch /home/ann/data"
TRIES = {
    "segments": "print(open('/proc/sysvipc/shm').read().count('\\n') - 1)",
    "host": f"import socket; socket.create_connection(('127.0.0.1', {LISTENS.partition(':')[2]}))",
    "network": "import socket; socket.create_connection(('192.0.2.1', 9), 1)",
    "names": "import socket; socket.create_connection(('db.example', 5432), 1)",
    "jit": "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)",
    "proc": "open('/proc/meminfo')",
    "gpu": "import os; os.stat('/dev/net/tun')",
    "home": "open('/home/ann/data')",
    "logs": "import os; open(os.environ['LOGS_DIRECTORY'] + '/app.log', 'w')",
    "log file": "open('/var/log/myapp/app.log', 'w')",
}
CLOSED = {
    "host": "OSError: [Errno 97] Address family not supported by protocol",
    "network": "OSError: [Errno 97] Address family not supported by protocol",
    "names": "socket.gaierror: [Errno -3] Temporary failure in name resolution",
    "jit": "PermissionError: [Errno 1] Operation not permitted",
    "proc": "FileNotFoundError: [Errno 2] No such file or directory: '/proc/meminfo'",
    "gpu": "FileNotFoundError: [Errno 2] No such file or directory: '/dev/net/tun'",
    "home": "PermissionError: [Errno 13] Permission denied: '/home/ann/data'",
    "logs": "KeyError: 'LOGS_DIRECTORY'",
    "log file": "FileNotFoundError: [Errno 2] No such file or directory: '/var/log/myapp/app.log'",
}
"""The last line of each try without its word of `needs`; docs/HOST.md has these."""


@pytest.fixture(scope="module")
def closed(shire: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that is deployed there with everything that has a unit, and no `needs`."""
    assert shire[0].sh(PREPARE).returncode == 0
    return deployed(make(tmp_path_factory.mktemp("units")), shire, **service([]))


def service(needs: list[str]) -> dict[str, object]:
    return {"needs": needs, "processes": PROCESSES, "hooks": {"before_activate": "true"}, "listen": LISTENS}


def rated(shire: Hosts, units: tuple[str, ...]) -> dict[str, float]:
    """Return the exposure of each unit as systemd rates it."""
    found = {}
    for unit in units:
        told = shire[0].sh(f"systemd-analyze security --no-pager {unit}.service | tail -n 1").stdout.decode()
        found[unit] = float(told.split("service:")[1].split()[0])
    return found


def tried(clone: Clone, name: str) -> str:
    """Try one thing in the sandbox; return the last line of what was printed."""
    return clone.fab("run", "-H", "shire01", "--", "python", "-c", TRIES[name]).both.strip().split("\n")[-1]


def test_every_unit_is_rated_as_promised(closed: Clone, shire: Hosts) -> None:
    assert {unit: rate for unit, rate in rated(shire, UNITS).items() if rate > 0.3} == {}
    put(closed, **service(["network"])).done("setup", "-H", "shire01")
    try:
        assert {unit: rate for unit, rate in rated(shire, UNITS).items() if rate > 1.0} == {}
    finally:
        put(closed, **service([])).done("setup", "-H", "shire01")


def test_shared_memory_is_each_units_own(closed: Clone, shire: Hosts) -> None:
    segment = re.search(rb"[0-9]+", shire[0].sh("cat /root/segment").stdout)
    assert segment
    assert shire[0].sh(f"ipcs -m -i {segment[0].decode()}").returncode == 0
    mine = shire[0].sh("readlink /proc/1/ns/ipc").stdout
    spaces = set()
    for unit in ("myapp@blue", "myapp-worker@blue"):
        main = f"$(systemctl show -p MainPID --value {unit}.service)"
        spaces.add(shire[0].sh(f"readlink /proc/{main}/ns/ipc").stdout)
    assert len({*spaces, mine}) == 3
    assert closed.root.exists()


@pytest.mark.parametrize("name", CLOSED)
def test_what_is_closed_says_so_in_these_words(closed: Clone, name: str) -> None:
    assert tried(closed, name) == CLOSED[name]


def test_each_word_of_needs_opens_its_part(closed: Clone) -> None:
    opened = {"host": "host", "jit": "jit", "proc": "proc", "gpu": "gpu", "home": "home", "logs": "logs"}
    put(closed, **service([*opened])).done("deploy", "-H", "shire01")
    try:
        said = {need: tried(closed, name) for need, name in opened.items()}
    finally:
        put(closed, **service([])).done("deploy", "-H", "shire01")
    # The proxy of `listen:` answers at loopback.
    assert said == dict.fromkeys(opened, "")
