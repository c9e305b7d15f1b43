"""Processes beside the web process: workers, timers, their environment, and the sandbox that `needs` opens."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tasks.engine.sandbox import Machine
from tests.support.clone import Clone, make
from tests.support.echo_service import deployed, put
from tests.support.front_door import ask, release_of
from tests.support.hosts import Hosts, MakeHosts

# Writes its identity and environment when it starts, then waits, as a worker does.
WORKER = """
import json, os, sys, time
told = {name.decode("utf-8", "surrogateescape"): value.hex() for name, value in os.environb.items()}
told |= {"uid": os.getuid(), "cwd": os.getcwd(), "pid": os.getpid()}
path = os.environ["STATE_DIRECTORY"] + "/" + sys.argv[1]
with open(path + ".part", "w") as file:
    json.dump(told, file)
os.rename(path + ".part", path)
if sys.argv[1] == "worker":
    time.sleep(100000)
"""
VALUES = {
    "QUOTES": """it's "quoted" `twice`""",
    "DOLLARS": "$HOME ${RELEASE} $(id) %i %% \\n \\\\",
    "SPACES": "  two  and three  ",
    "UNICODE": "żółw 🐢",
    "EMPTY": "",
    "OPTION": "-e --flag=a;b|c&d>e",
    "SEVERAL": "first\n\tsecond $HOME\n\n  last\n",
    "lower_case": "$lower_case",
}
PROCESSES = {
    "worker": {"command": "python worker.py worker 'two words' '$HOME'"},
    "nightly": {"command": "python worker.py nightly", "schedule": "*-*-* 03:00:00"},
}


@pytest.fixture(scope="module")
def working(shire: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that is deployed there, with a worker, a timer and a difficult environment."""
    clone = make(tmp_path_factory.mktemp("working"))
    clone.write("service/worker.py", WORKER)
    hooks = {"before_activate": "python worker.py hook"}
    return deployed(clone, shire, processes=PROCESSES, env=VALUES, hooks=hooks)


def report(machine: Machine, name: str) -> dict[str, Any]:
    """Return what the process wrote about itself at its start."""
    document = machine.sh(f"until [ -e /var/lib/myapp/{name} ]; do sleep 0.02; done; cat /var/lib/myapp/{name}").stdout
    found: dict[str, Any] = yaml.safe_load(document)
    return found


def unit_of_worker(machine: Machine) -> str:
    """Return the unit of the worker in the committed slot."""
    slot = machine.sh("readlink /opt/apps/myapp/current").stdout.decode().strip().rpartition("/")[2]
    return f"myapp-worker@{slot}.service"


def environment(found: dict[str, Any]) -> dict[str, str]:
    given = {name: value for name, value in found.items() if name not in {"uid", "cwd", "pid"}}
    return {name: bytes.fromhex(value).decode() for name, value in given.items()}


def test_however_quickly_deploys_come_workers_and_timers_are_up_afterwards(working: Clone, shire: Hosts) -> None:
    """By default systemd refuses the sixth start in ten seconds. Once: systemd refused the sixth start of a worker or
    timer in ten seconds, and quick deploys left it down.
    """
    assert working.root.exists()
    for unit in (unit_of_worker(shire[0]), "myapp-nightly.timer"):
        ended = shire[0].sh(f"for _ in 1 2 3 4 5 6 7 8; do systemctl restart {unit} || exit; done")
        assert ended.returncode == 0, ended.stderr.decode()
        assert shire[0].sh(f"systemctl is-active {unit}").stdout == b"active\n"


def test_every_process_gets_the_environment_byte_for_byte(working: Clone, shire: Hosts) -> None:
    machine = shire[0]
    assert machine.sh("systemctl start myapp-nightly.service").returncode == 0
    given = {**VALUES, "SERVICE": "myapp", "RELEASE": working.release(), "HOST": "shire01"}
    working.done("run", "-H", "shire01", "--", "python", "worker.py", "run")
    places = ("worker", "nightly", "hook", "run")
    for found in (ask(machine.address, "/environ").json(), *(report(machine, place) for place in places)):
        seen = environment(found)
        assert {name: seen[name] for name in given} == given


def test_worker_and_job_run_from_the_committed_release_as_the_services_user(working: Clone, shire: Hosts) -> None:
    machine = shire[0]
    uid = int(machine.sh("id -u myapp").stdout)
    machine.sh("systemctl start myapp-nightly.service")
    for name in ("worker", "nightly"):
        found = report(machine, name)
        assert found["uid"] == uid
        assert found["cwd"] == f"/opt/apps/myapp/releases/{working.release()}/code"
    timer = machine.sh("systemctl list-timers --no-legend --plain myapp-nightly.timer").stdout.decode()
    assert "03:00:00" in timer


def test_a_release_that_fails_leaves_the_worker_of_the_former_one_alone(working: Clone, shire: Hosts) -> None:
    machine = shire[0]
    before = report(machine, "worker")["pid"]
    good = (working.root / "service/echo.py").read_text()
    working.write("service/echo.py", "raise SystemExit('bad')\n")
    assert working.fab("deploy", "-H", "shire01").status == 1
    shown = machine.sh(f"systemctl show -p MainPID --value {unit_of_worker(machine)}").stdout.decode().strip()
    assert shown == str(before)
    working.write("service/echo.py", good + "\n")
    machine.sh("rm /var/lib/myapp/worker")
    working.done("deploy", "-H", "shire01")
    found = report(machine, "worker")
    assert found["pid"] != before
    assert environment(found)["RELEASE"] == working.release() == release_of(machine.address)


def test_a_job_that_fails_undoes_nothing(working: Clone, shire: Hosts) -> None:
    machine = shire[0]
    processes = {**PROCESSES, "nightly": {"command": "false", "schedule": "daily"}}
    put(working, processes=processes, env=VALUES).done("deploy", "-H", "shire01")
    assert machine.sh("systemctl start myapp-nightly.service").returncode != 0
    assert release_of(machine.address) == working.release()
    assert machine.sh("systemctl is-active myapp-nightly.timer").stdout == b"active\n"
    assert "UNCHANGED" in working.done("deploy", "-H", "shire01").out


def test_a_process_that_left_service_yaml_leaves_the_host(working: Clone, shire: Hosts) -> None:
    """Once: systemd went on listing a job that had failed, as `not-found failed`."""
    machine = shire[0]
    failing = {**PROCESSES, "nightly": {"command": "false", "schedule": "daily"}}
    put(working, processes=failing).done("deploy", "-H", "shire01")
    assert machine.sh("systemctl start myapp-nightly.service").returncode != 0
    up = machine.sh(f"systemctl is-active {unit_of_worker(machine)} myapp-nightly.timer").stdout
    assert up == b"active\nactive\n"
    put(working).done("deploy", "-H", "shire01")
    assert machine.sh("systemctl list-units --all --plain --no-legend 'myapp-[wn]*'").stdout == b""
    assert machine.sh("pgrep -u myapp -f worker.py").stdout == b""
    left = machine.sh("find /etc -name 'myapp-worker*' -o -name 'myapp-nightly*'").stdout
    assert left == b""
    assert machine.sh("grep -c worker /etc/sudoers.d/myapp").stdout == b"0\n"


CLOSED = {
    "PrivateNetwork": "yes",
    "IPAccounting": "no",
    "IPAddressDeny": "0.0.0.0/0 ::/0",
    "IPAddressAllow": "127.0.0.0/8 ::1/128",
    "MemoryDenyWriteExecute": "yes",
    "ProcSubset": "pid",
    "PrivateDevices": "yes",
    "DevicePolicy": "closed",
    "ProtectHome": "yes",
}
NEEDS = {
    "host": {"PrivateNetwork": "no", "IPAccounting": "yes"},
    "network": {"PrivateNetwork": "no", "IPAddressAllow": "0.0.0.0/0 ::/0"},
    "jit": {"MemoryDenyWriteExecute": "no"},
    "proc": {"ProcSubset": "all"},
    "gpu": {"PrivateDevices": "no", "DevicePolicy": "auto"},
    "home": {"ProtectHome": "read-only"},
}


@pytest.mark.parametrize("need", NEEDS)
def test_a_need_opens_its_own_part_of_the_sandbox_and_no_other(working: Clone, shire: Hosts, need: str) -> None:
    put(working, needs=[need]).done("setup", "-H", "shire01")
    asked = " ".join(f"-p {name}" for name in CLOSED)
    shown = shire[0].sh(f"systemctl show myapp@blue.service {asked}").stdout.decode()
    seen = dict(line.split("=", 1) for line in shown.splitlines())
    for name in ("IPAddressDeny", "IPAddressAllow"):
        seen[name] = " ".join(sorted(seen[name].split()))
    assert seen == CLOSED | NEEDS[need]


def test_an_override_takes_effect_on_its_host_alone(clone: Clone, module_hosts: MakeHosts) -> None:
    hosts = module_hosts(2)
    inventory = yaml.safe_load(hosts.inventory.read_text())
    first, second = sorted(inventory["hosts"])
    inventory["hosts"][second]["service"] = {
        "env": {"COLOUR": "blue"},
        "nginx": {"server_name": "second.example"},
        "processes": {"worker": {"command": "sleep infinity"}},
    }
    hosts.inventory.write_text(yaml.safe_dump(inventory))
    clone.inventory = hosts.inventory
    put(clone, env={"COLOUR": "red"}).done("deploy", "-H", "all")
    seen = [
        environment(ask(machine.address, "/environ", name).json())
        for machine, name in zip(hosts, ("myapp.example", "second.example"), strict=True)
    ]
    assert [one["COLOUR"] for one in seen] == ["red", "blue"]
    assert [one["HOST"] for one in seen] == [first, second]
    assert seen[0]["RELEASE"] == seen[1]["RELEASE"] == clone.release()
    workers = [machine.sh(f"systemctl is-active {unit_of_worker(machine)}").stdout for machine in hosts]
    assert workers == [b"inactive\n", b"active\n"]
