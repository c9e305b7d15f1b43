"""Limits of the units, and kills for want of memory.

The cgroups of a local host enforce neither memory nor tasks, so these tests show the properties that systemd has read,
the limit of files from inside, and the messages of systemd as a journal has them: root writes those in its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.clone import Clone, make
from tests.support.echo_service import APP, deployed, description
from tests.support.hosts import Hosts

LIMITS = {"memory": "768M", "cpu": "150%", "tasks": 300, "files": 2048}
PROCESSES = {
    "worker": {"command": "sleep 100000", "limits": {"memory": "96M", "files": 4096}},
    "nightly": {"command": "true", "schedule": "*-*-* 03:00:00"},
}
NAMES = ("MemoryMax", "CPUQuotaPerSecUSec", "TasksMax", "LimitNOFILE", "OOMPolicy")
NOFILE = "import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
# Root may send credentials of any process to the journal's socket.
KILLS = """
import socket, struct, time

journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
as_pid_1 = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("3i", 1, 0, 0))]
while True:
    for unit in ("myapp@blue.service", "myapp@green.service"):
        said = f"{unit}: A process of this unit has been killed by the OOM killer."
        message = f"MESSAGE={said}\\nMESSAGE_ID=fe6faa94e7774663a0da52717891d8ef\\nUNIT={unit}\\n"
        journal.sendmsg([message.encode()], as_pid_1, 0, "/run/systemd/journal/socket")
    time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def limited(shire: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that is deployed there with limits."""
    clone = make(tmp_path_factory.mktemp("limited"))
    return deployed(clone, shire, limits=LIMITS, processes=PROCESSES, hooks={"before_activate": "true"})


def test_every_unit_has_its_limits(limited: Clone, shire: Hosts) -> None:
    assert limited.root.exists()
    usual = [str(768 << 20), "1.500000s", "300", "2048", "continue"]
    worker = [str(96 << 20), "1.500000s", "300", "4096", "continue"]
    units = {"myapp@blue": usual, "myapp-worker@blue": worker, "myapp-nightly": usual, "myapp-hook@blue": usual,
             "myapp-run@0": usual, "myapp-run-health@0": usual}  # fmt: skip
    options = " ".join(f"-p {name}" for name in NAMES)
    for unit, wanted in units.items():
        shown = shire[0].sh(f"systemctl show {options} {unit}.service").stdout.decode()
        found = dict(line.split("=", 1) for line in shown.splitlines())
        assert [found[name] for name in NAMES] == wanted, unit
    assert b"nvalid" not in shire[0].sh("systemd-analyze verify --man=no /etc/systemd/system/myapp*.service").stderr


def test_the_limit_of_files_is_in_force(limited: Clone, shire: Hosts) -> None:
    assert limited.done("run", "-H", "shire01", "--", "python", "-c", NOFILE).out == "2048 2048\n"
    for unit, files in (("myapp@blue", "2048"), ("myapp-worker@blue", "4096")):
        main = f"$(systemctl show -p MainPID --value {unit}.service)"
        line = shire[0].sh(f"grep 'Max open files' /proc/{main}/limits").stdout.decode().split()
        assert line[3:5] == [files, files], unit


def test_a_plan_warns_of_more_memory_than_the_host_has(limited: Clone) -> None:
    before = (limited.root / "service/service.yaml").read_text()
    limited.write("service/service.yaml", description(limits={"memory": "900000M"}, processes={}))
    try:
        told = limited.done("plan", "-H", "shire01").out
    finally:
        limited.write("service/service.yaml", before)
    assert "  warning: two releases at once may use 1800000M of memory, and the host has " in told


@contextmanager
def killed(shire: Hosts) -> Iterator[None]:
    """Let systemd's messages of kills come for as long as the block runs."""
    machine = shire[0]
    assert machine.sh("cat >/root/kills.py", KILLS.encode()).returncode == 0
    first = "until journalctl -q -o cat _PID=1 UNIT=myapp@blue.service | grep -q OOM; do sleep 0.05; done"
    started = machine.sh(f"systemd-run -q --unit=kills python3 /root/kills.py && {first}")
    assert started.returncode == 0, started.stderr.decode()
    try:
        yield
    finally:
        machine.sh("systemctl stop kills")


def test_a_kill_for_want_of_memory_is_named_in_the_failure_and_by_status(limited: Clone, shire: Hosts) -> None:
    app = Path(limited.root / "service/echo.py")
    app.write_text(f"{APP}\nimport signal\n\nos.kill(os.getpid(), signal.SIGKILL)\n")
    try:
        with killed(shire):
            ended = limited.fab("deploy", "-H", "shire01")
    finally:
        app.write_text(APP)
    assert ended.status == 1
    assert "a process of myapp@green.service was killed for want of memory (OOM)" in ended.both, ended.both
    assert "--stop-first" not in ended.both
    noted = limited.done("status", "-H", "shire01").out
    assert "processes of myapp@green.service were killed for want of memory (OOM), " in noted
