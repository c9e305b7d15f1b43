"""A secret is nowhere but where it belongs: looked for in five encodings, in all that we write, and as other users."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.clone import FAB, Clone, make
from tests.support.echo_service import APP, put
from tests.support.hosts import MakeHosts
from tests.support.site import Site

pytestmark = pytest.mark.long

ON = ("-H", "shire01")
# It reads the same in no two encodings, and holds what a file of each of ours would have to quote.
VALUES = ("Sesame one/+\"é' $HOME 8b1d", "Sesame two/+\"é' $HOME 77fe", "bad Sesame three/+\"é' 3c0a")
READY = """

@app.get("/readyz")
def readyz():
    return {}, 500 if os.environ["API_TOKEN"].startswith("bad") else 200
"""
QUERIES = (("plan",), ("plan", "--steps"), ("plan", "--json"), ("status", "--json"), ("history", "--json"), ("doctor",),
           ("drift",), ("logs", "-n", "1000", "--json"), ("secrets.list",), ("secrets.list", "--json"),
           ("backup", "--json"))  # fmt: skip


def encodings(value: str) -> set[bytes]:
    """Return the value plain, in base64 at each place in other data, in hex, quoted for a URL, and for JSON."""
    raw = value.encode()
    shifted = (base64.b64encode(raw[start:])[:-4] for start in range(3))
    quoted = (urllib.parse.quote(value), urllib.parse.quote_plus(value), json.dumps(value)[1:-1])
    escaped = json.dumps(value, ensure_ascii=False)[1:-1]
    return {raw, raw.hex().encode(), raw.hex().upper().encode(), escaped.encode(), *shifted,
            *(one.encode() for one in quoted)}  # fmt: skip


PATTERNS = sorted(one for value in VALUES for one in encodings(value))


def found(data: bytes) -> list[bytes]:
    return [pattern for pattern in PATTERNS if pattern in data]


# Prints what it finds in all that any account may read of processes, until it is told to end.
LOOK = """
import glob, os, time
with open("/tmp/patterns", "rb") as file:
    patterns = file.read().split(b"\\n")
while not os.path.exists("/tmp/over"):
    time.sleep(0.005)
    for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError:
            continue
        if any(pattern in data for pattern in patterns):
            print(path, data, flush=True)
"""


@contextmanager
def watched(site: Site) -> Iterator[list[bytes]]:
    """Look, all the time, at the arguments of all processes here, and as `nobody` at all that /proc shows there."""
    seen: list[bytes] = []
    over = threading.Event()

    def here() -> None:
        while not over.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    if hits := found(path.read_bytes()):
                        seen.append(b"on the controller: " + hits[0])
                except OSError:
                    continue

    there: list[bytes] = []
    command = "rm -f /tmp/over; runuser -u nobody -- python3 /tmp/look.py"
    watching = threading.Thread(target=lambda: there.append(site.machine.sh(command, timeout=900).stdout), daemon=True)
    threads = (threading.Thread(target=here, daemon=True), watching)
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        site.sh("touch /tmp/over")
        for thread in threads:
            thread.join()
        seen += there and [line for line in there[0].splitlines() if line]


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    hosts = module_hosts()
    clone = make(tmp_path_factory.mktemp("places"), hosts.inventory)
    clone.environment["XDG_STATE_HOME"] = str(clone.root.parent / "state")
    put(clone, secrets=["API_TOKEN"], health={"path": "/readyz", "passes": 1, "settle": 0, "timeout": 12}, probation=2)
    clone.write("service/echo.py", APP + READY)
    made = Site(clone, hosts[0])
    for path, data in (("/tmp/look.py", LOOK.encode()), ("/tmp/patterns", b"\n".join(PATTERNS))):  # noqa: S108
        assert made.machine.sh(f"cat >{path}; chmod 644 {path}", stdin=data).returncode == 0
    return made


def set_to(clone: Clone, value: str) -> bytes:
    """Set the secret; return all that was printed."""
    ended = subprocess.run([FAB, "secrets.set", "API_TOKEN", *ON], input=value.encode(), cwd=clone.root,
                           env=clone.variables(), capture_output=True, timeout=300)  # fmt: skip
    assert ended.returncode == value.startswith("bad"), (ended.stdout + ended.stderr).decode()
    return ended.stdout + ended.stderr


def test_a_secret_is_in_nothing_that_we_write(site: Site) -> None:
    printed = b""
    with watched(site) as seen:
        printed += set_to(site.clone, VALUES[0])
        printed += site.done("deploy").both.encode()
        for value in VALUES[1:]:
            printed += set_to(site.clone, value)
        printed += site.done("restart").both.encode()
        for words in QUERIES:
            printed += site.fab(*words).both.encode()
    assert seen == []
    assert found(printed) == []
    # The release, its logs and all else that the controller keeps.
    for path in site.clone.root.parent.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert found(path.read_bytes()) == [], path
    (backup,) = (site.clone.root / ".backups/shire01").iterdir()
    assert found(gzip.decompress(backup.read_bytes())) == []
    # On the host: its files, all that systemd and the journal tell, and what a core dump may have.
    left_out = " ".join(f"--exclude-dir={name}" for name in ("proc", "sys", "dev", "secrets", "credentials"))
    look = f"grep -raFl -D skip {left_out} -f /tmp/patterns / | grep -v ^/tmp/patterns; true"
    assert site.machine.sh(look, timeout=600).stdout == b""
    tell = "{ systemctl show '*'; systemctl cat 'myapp*'; journalctl -a -o export; journalctl -a -o cat; } 2>/dev/null"
    assert site.machine.sh(f"{tell} | grep -aF -f /tmp/patterns | head -c 1000; true").stdout == b""
    assert site.sh(f"grep core /proc/{site.main_pid}/limits").split()[4:6] == ["1", "1"]
    # It is where it belongs, or all of this has looked for nothing.
    assert site.machine.sh("grep -aFc -f /tmp/patterns /etc/myapp/secrets/API_TOKEN").stdout == b"1\n"
    assert site.machine.sh(f"grep -aFc -f /tmp/patterns /proc/{site.main_pid}/environ").stdout == b"1\n"


@pytest.mark.parametrize("user", ["nobody", "deploy"])
def test_no_other_account_reads_it_on_the_host(site: Site, user: str) -> None:
    unit = f"myapp@{site.slot}.service"
    for path in ("/etc/myapp/secrets", f"/run/credentials/{unit}"):
        assert site.machine.sh(f"ls {path}").stdout.strip() == b"API_TOKEN"
        for look in (f"ls {path}", f"cat {path}/API_TOKEN", f"cat /proc/{site.main_pid}/root{path}/API_TOKEN"):
            assert site.machine.sh(f"runuser -u {user} -- {look}").returncode != 0, look
    look = "grep -raFl -D skip -f /tmp/patterns /run /etc /var /opt /tmp /home /root /dev/shm 2>/dev/null"
    readable = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | grep -aFc -f /tmp/patterns"
    told = site.machine.sh(f"runuser -u {user} -- sh -c '{look} | grep -v ^/tmp/patterns'", timeout=300).stdout
    assert told == b""
    assert site.machine.sh(f"runuser -u {user} -- sh -c '{readable}'").stdout == b"0\n"
