"""Imitations by another local user on a host: none passes for the service's own."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tasks.engine.host import host_program
from tests.support.clone import make
from tests.support.front_door import ask
from tests.support.hosts import MakeHosts
from tests.support.site import ROOT, Site
from tests.traffic import service as traffic

DRAIN = 45
"""Seconds that no deploy here takes, unless it waits for all of them."""
# Listens at both paths, in a /run of its own: two connections wait to be accepted at each, and one is accepted.
LOOKALIKE = """
import os, socket, time
os.mkdir("/run/myapp")
kept = []
for slot in ("blue", "green"):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"/run/myapp/{slot}.sock")
    listener.listen(5)
    for _ in range(3):
        client = socket.socket(socket.AF_UNIX)
        client.connect(f"/run/myapp/{slot}.sock")
        kept.append(client)
    kept += [listener, *listener.accept()]
time.sleep(600)
"""

# Names a release in its command line, and hides from other users. Only the service can open the release itself.
NAMES_IT = """
import ctypes, os, sys, time
try:
    os.open(sys.argv[1].partition("/venv")[0], os.O_RDONLY)
    assert sys.argv[2] == "myapp"
except PermissionError:
    assert sys.argv[2] == "nobody"
ctypes.CDLL(None).prctl(4, 0)
open("/tmp/ready", "w")
time.sleep(600)
"""

# Reads all that any user can of running processes; and, as root or the deploy account, the nonce of the run.
ARGUMENTS = """
import glob, os, time
seen, nonces = set(), set()
open("/tmp/ready", "w")
while not os.path.exists("/tmp/enough"):
    for path in [*glob.glob("/proc/[0-9]*/cmdline"), "/run/myapp/ctl/probation/run"]:
        try:
            told = open(path).read()
        except OSError:
            continue
        (seen if "/proc/" in path else nonces).add(told)
(nonce,) = {told.split()[0] for told in nonces if told}
open("/tmp/nonce", "w").write(nonce)
open("/tmp/seen", "w").write("\\n".join(seen).replace("\\0", " "))
time.sleep(600)
"""


# Uses the program that the host keeps.
SOCKETS = """
import sys
sys.path.insert(0, "{place}")
from host import service, slots
high = service.Service("high", "/none", 0, 0, None, None, (), (), ())
found = slots.Slots(None, high, None)
for words in found._sockets("blue", found._socket_mark("blue"), "-l"):
    print(*words, "")
"""


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return traffic.deployed(make(tmp_path_factory.mktemp("site")), module_hosts(), drain=DRAIN, keep=2)


@contextmanager
def stranger(site: Site, command: str, program: str, ready: str, account: str = "nobody") -> Iterator[None]:
    """Run COMMAND as the account for the block, with this as /tmp/program.py; wait until READY holds."""
    site.sh(f"cat >/tmp/program.py <<'END'\n{program}END")
    site.sh(f"systemd-run -q --unit=stranger -p User={account} {command}")
    try:
        site.sh(f"timeout 20 sh -c 'until {ready}; do sleep 0.05; done'")
        yield
    finally:
        site.sh("systemctl stop stranger")


OWN_RUN = "unshare -rm sh -c 'mount -t tmpfs none /run && exec python3 /tmp/program.py'"
BOUND = "[ $(ss -Hx state connected src /run/myapp/green.sock | wc -l) = 1 ]"


def test_what_waits_at_a_lookalike_of_a_socket_puts_off_no_drain(site: Site) -> None:
    with stranger(site, OWN_RUN, LOOKALIKE, BOUND):
        for change in (site.deploy, lambda: site.done("restart")):
            began = time.monotonic()
            change()
            assert time.monotonic() - began < DRAIN


def test_what_is_connected_to_a_lookalike_is_no_request_that_was_cut_off(site: Site) -> None:
    traffic.put(site.clone, drain=1, keep=2)
    slow = threading.Thread(target=ask, args=(site.machine.address, "/slow?seconds=20"), kwargs={"timeout": 60})
    began = site.sh("date +%s")
    slow.start()
    site.sh(f"until ss -Hx state connected src /run/myapp/{site.slot}.sock | grep -q ESTAB; do sleep 0.05; done")
    with stranger(site, OWN_RUN, LOOKALIKE, BOUND):
        site.done("deploy")
    slow.join()
    told = site.sh(f"journalctl --sync; journalctl -q -o cat -t myapp-probation --since @{began}")
    assert ": 1 requests were still under way after 1 s, and were cut off" in told


@pytest.mark.parametrize(("account", "stays"), [("nobody", False), ("myapp", True)])
def test_only_the_services_own_processes_keep_a_release(site: Site, account: str, stays: bool) -> None:
    traffic.put(site.clone, drain=1, keep=2)
    old = site.deploy()
    release = f"/opt/apps/myapp/releases/{old}"
    command = f"python3 /tmp/program.py {release}/venv/bin/python {account}"
    with stranger(site, command, NAMES_IT, "[ -e /tmp/ready ]", account):
        site.sh("rm /tmp/ready")
        for _ in range(3):
            site.deploy()
        assert (old in site.releases) == stays
        assert (f"release {old} stays" in site.fab("doctor").out) == stays


def test_the_nonce_of_a_run_stands_in_no_argument(site: Site) -> None:
    with stranger(site, "python3 /tmp/program.py", ARGUMENTS, "[ -e /tmp/ready ]", "root"):
        site.deploy()
        site.sh("touch /tmp/enough; until [ -s /tmp/seen ]; do sleep 0.05; done; rm /tmp/ready")
    seen, nonce = site.sh("cat /tmp/seen"), site.sh("cat /tmp/nonce")
    assert re.fullmatch("[0-9a-f]{16}", nonce)
    assert "https://stranger.invalid" in seen
    assert nonce not in seen


def test_a_socket_is_known_on_any_device(site: Site) -> None:
    """The C library and the kernel encode minor numbers above 255 differently."""
    site.sh("for at in $(seq 256); do mkdir -p /mnt/$at && mount -t tmpfs none /mnt/$at; done")
    site.sh("mkdir -p /run/high && mount -t tmpfs none /run/high")
    bind = (
        "import socket as s, time; a = s.socket(s.AF_UNIX); a.bind('/run/high/blue.sock'); a.listen(); time.sleep(600)"
    )
    try:
        site.sh(
            f'systemd-run -q --unit=high python3 -c "{bind}"; until [ -S /run/high/blue.sock ]; do sleep 0.05; done'
        )
        program = SOCKETS.format(place=host_program.place(ROOT))
        (line,) = site.machine.sh("python3 -I -S -", program.encode()).stdout.decode().splitlines()
        assert " /run/high/blue.sock " in line
        assert "ino:" in line
    finally:
        site.sh("systemctl stop high; umount /run/high /mnt/*")
