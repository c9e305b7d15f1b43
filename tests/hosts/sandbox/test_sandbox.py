"""The sandbox's hosts are real machines: booted, reached, cut off, rebooted, and removed without a trace."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tasks.engine.sandbox import Machine, Sandbox, network, process
from tests.support.hosts import Hosts, MakeHosts

HARDENED = (
    *("ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes", "PrivateUsers=yes"),
    *("ProtectProc=invisible", "ProcSubset=pid", "ProtectClock=yes", "ProtectHostname=yes", "ProtectKernelLogs=yes"),
    *("ProtectKernelTunables=yes", "ProtectControlGroups=yes", "NoNewPrivileges=yes", "MemoryDenyWriteExecute=yes"),
    *("RestrictNamespaces=yes", "RestrictAddressFamilies=AF_UNIX", "SystemCallFilter=@system-service"),
    *("SystemCallFilter=~@privileged @resources", "IPAddressDeny=any", "DevicePolicy=closed", "User=deploy"),
)


@pytest.fixture
def own(sandbox: Sandbox, tmp_path: Path) -> Iterator[Sandbox]:
    """A second sandbox beside that of the test run."""
    made = Sandbox(tmp_path / "state", sandbox.suite)
    try:
        yield made
    finally:
        made.down()


def run(machine: Machine, command: str) -> str:
    """Run a command on a machine, which must succeed; return its output."""
    done = machine.sh(command)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def ssh(host: Machine, identity: Path, user: str, host_key: str, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command through the system's ssh, which knows this one host key."""
    known = host.directory / "known_hosts"
    known.write_text(f"{host.address} {host_key}\n")
    options = ["BatchMode=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={known}", "IdentitiesOnly=yes"]
    words = ["ssh", "-F", "none", "-i", str(identity), *(word for option in options for word in ("-o", option))]
    return subprocess.run(
        [*words, f"{user}@{host.address}", command], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def bridges() -> set[str]:
    return {path.name for path in Path("/sys/class/net").glob("iloop*")}


def traces(machine: Machine) -> list[str]:
    """Return every process, mount, interface and cgroup on the controller that names a machine."""
    found = [str(path) for path in Path("/sys/fs/cgroup").rglob(f"*{machine.machine_name}*")]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(machine.directory) in line]
    found += [path.name for path in Path("/sys/class/net").glob(f"vb-{machine.network.bridge}-*")]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_text()
        except OSError:
            continue
        found += [command] if str(machine.directory) in command else []
    return found


def test_a_host_boots_whole_and_plain(host: Machine) -> None:
    assert run(host, "cat /proc/1/comm") == "systemd"
    assert run(host, "systemctl is-system-running") == "running"
    assert run(host, "hostname") == host.name
    assert run(host, "systemctl is-active nginx || true") == "inactive"
    assert run(host, "systemctl is-enabled nginx || true") == "disabled"
    assert re.match(r"Python 3\.\d+", run(host, "python3 --version"))
    assert host.sh("python3 -c 'import ensurepip'").returncode != 0


def test_no_host_has_a_way_out(hosts: MakeHosts) -> None:
    first, second = hosts(2)
    assert run(first, "ip -4 route") == f"{first.network.subnet} dev host0 proto kernel scope link src {first.address}"
    assert run(first, "ip -6 route show default") == ""
    assert first.sh("getent hosts example.org").returncode != 0
    assert first.sh("curl --silent --max-time 5 telnet://192.0.2.1:80").returncode == 7
    assert run(first, f"ssh-keyscan -t ed25519 {second.address}").endswith(second.host_key)


@pytest.mark.parametrize("user", ["deploy", "root"])
def test_ssh_answers_with_its_pin_and_has_root_rights(user: str, one_host: Hosts) -> None:
    pinned = yaml.safe_load(one_host.inventory.read_text())["hosts"]["shire01"]
    assert pinned["address"] == one_host[0].address
    assert pinned["user"] == "deploy"
    done = ssh(one_host[0], Path(pinned["identity"]), user, pinned["host_key"], "id -un && sudo -n id -un")
    assert done.stdout.split() == [user, "root"], done.stderr


def test_each_host_has_its_own_key_and_machine_id(hosts: MakeHosts, sandbox: Sandbox) -> None:
    first, second = hosts(2)
    assert first.host_key != second.host_key
    assert run(first, "cat /etc/machine-id") != run(second, "cat /etc/machine-id")
    assert "verification failed" in ssh(first, sandbox.identity, "deploy", second.host_key, "true").stderr


def test_the_journal_records(host: Machine) -> None:
    run(host, "echo the-needle | systemd-cat -t sandbox-test")
    run(host, "journalctl --sync")
    assert "the-needle" in run(host, "journalctl -t sandbox-test -o cat")
    assert "the-needle" in host.journal()


def test_a_hardened_unit_runs(host: Machine) -> None:
    properties = " ".join(f"-p '{line}'" for line in HARDENED)
    assert run(host, f"systemd-run --quiet --wait --pipe {properties} id -un") == "deploy"
    assert host.sh(f"systemd-run --quiet --wait --pipe {properties} touch /usr/x").returncode != 0


def test_the_shell_inside_takes_stdin_and_gives_the_status(host: Machine) -> None:
    done = host.sh("cat; echo wrong >&2; exit 7", stdin=b"payload\0")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"payload\0", b"wrong\n")
    with pytest.raises(subprocess.TimeoutExpired):
        host.sh("sleep 30", timeout=0.2)


def test_a_power_cut_keeps_the_disk_and_ends_everything_at_once(host: Machine) -> None:
    run(host, "echo kept >/var/tmp/file; echo gone >/run/file; cat /proc/sys/kernel/random/boot_id >/var/tmp/boot")
    host.power_cut()
    assert (host.leader_pid, host.keeper_pid, traces(host)) == (None, None, [])
    host.boot()
    assert run(host, "cat /var/tmp/file") == "kept"
    assert host.sh("test -e /run/file").returncode != 0
    assert run(host, "systemctl is-system-running") == "running"
    assert run(host, "journalctl --list-boots --no-pager | grep -c ':'") == "2"


def test_a_reboot_from_inside_comes_back(host: Machine) -> None:
    run(host, "echo kept >/var/tmp/file; sed -i /deploy/d /etc/sudoers.d/deploy")
    before = host.leader_pid
    host.reboot()
    assert host.leader_pid not in (None, before)
    assert run(host, "cat /var/tmp/file; cat /etc/sudoers.d/deploy") == "kept"


def test_a_poweroff_from_inside_stays_off_until_it_is_booted(host: Machine, sandbox: Sandbox) -> None:
    keeper = host.keeper_pid
    assert keeper is not None
    host.sh("systemctl poweroff")
    assert process.await_end(keeper, 30)
    assert host.leader_pid is None
    sandbox.up([host.name])
    assert run(host, "hostname") == host.name


def test_up_leaves_what_runs_and_boots_what_is_off(own: Sandbox) -> None:
    first, second = own.up(2)
    second.power_cut()
    said: list[str] = []
    again = own.up(2, said.append)
    assert again == (first, second)
    assert said == [f"booting shire02 at {second.address}"]
    assert own.up(1) == (first,)
    assert own.machines() == (first, second)


def test_up_brings_hosts_back_after_the_controller_lost_its_bridges(own: Sandbox, tmp_path: Path) -> None:
    (machine,) = own.up(1)
    key = machine.host_key
    run(machine, "echo kept >/var/tmp/file")
    machine.power_cut()
    network.release(machine.network, own.state_dir)
    stranger = tmp_path / "stranger"
    assert network.claim(stranger, machine.network.number) == machine.network
    try:
        (moved,) = own.up(1)
    finally:
        network.release(machine.network, stranger)
    assert moved.network != machine.network
    assert (run(moved, "cat /var/tmp/file"), moved.host_key) == ("kept", key)
    assert moved.address in own.inventory.read_text()


def test_sandboxes_made_at_once_do_not_share_a_network(sandbox: Sandbox, tmp_path: Path) -> None:
    made = [Sandbox(tmp_path / str(number), sandbox.suite) for number in range(3)]
    try:
        with ThreadPoolExecutor() as pool:
            machines = [machine for found in pool.map(lambda one: one.up(1), made) for machine in found]
        assert len({machine.address for machine in machines}) == 3
        assert {run(machine, "hostname") for machine in machines} == {"shire01"}
    finally:
        for one in made:
            one.down()


def test_down_leaves_no_trace(own: Sandbox) -> None:
    machines = own.up(2)
    (bridge,) = {machine.network.bridge for machine in machines}
    assert bridge in bridges()
    assert all(traces(machine) for machine in machines)
    assert own.down(["shire01"]) == ("shire01",)
    assert list(yaml.safe_load(own.inventory.read_text())["hosts"]) == ["shire02"]
    assert own.down() == ("shire02",)
    assert [trace for machine in machines for trace in traces(machine)] == []
    assert bridge not in bridges()
    assert not own.state_dir.exists()
    assert own.down() == ()


def test_down_ends_a_host_whose_nspawn_was_killed(own: Sandbox) -> None:
    """Once: such a host went on, and its cgroup kept every later run of the tests from starting."""
    (machine,) = own.up(1)
    keeper, leader = machine.keeper_pid, machine.leader_pid
    assert keeper
    assert leader
    for pid in (keeper, *process.children(keeper)):
        process.kill(pid)
        process.await_end(pid, 10)
    assert process.start_time(leader) is not None
    own.down()
    assert process.await_end(leader, 10)
    assert traces(machine) == []


def test_down_leaves_a_process_alone_that_took_the_number_of_ours(own: Sandbox) -> None:
    (machine,) = own.up(1)
    machine.power_cut()
    started = process.start_time(os.getpid())
    assert started is not None
    (machine.directory / "pid").write_text(f"{os.getpid()} {started - 1}\n")
    assert machine.keeper_pid is None
    own.down()


def test_keys_and_disks_are_for_their_owner_alone(own: Sandbox) -> None:
    (machine,) = own.up(1)
    private = [own.identity, machine.directory / "ssh_host_ed25519_key", machine.directory / "disk"]
    assert [path.stat().st_mode & 0o077 for path in private] == [0, 0, 0]
