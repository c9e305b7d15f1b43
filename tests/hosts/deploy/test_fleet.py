"""Many hosts as one: waves, limits, undo and hooks, on real hosts."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from tests.support.clone import Clone, make, quicken
from tests.support.front_door import release_of
from tests.support.front_door_watch import watched
from tests.support.hosts import Hosts, MakeHosts

NAMES = ("shire01", "shire02", "shire03", "shire04", "shire05")
FAILS_ON_SHIRE04 = """
import os
if os.environ.get("HOST") == "shire04":
    raise RuntimeError("only on this host")
"""


class Fleet:
    """Five hosts that serve one release, and its clone."""

    def __init__(self, clone: Clone, hosts: Hosts) -> None:
        self.clone, self.hosts = clone, hosts
        self._edits = 0

    def edit(self, text: str = "") -> str:
        """Make the working copy a new release; return its id."""
        self._edits += 1
        path = self.clone.root / "service" / "app" / "__init__.py"
        path.write_text(f"{_ORIGINAL['text']}\n# edit {self._edits}\n{text}")
        return self.clone.release()

    def serve(self) -> list[str]:
        """Return the answer of each host."""
        return [release_of(machine.address) for machine in self.hosts]


_ORIGINAL: dict[str, str] = {}


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    hosts = module_hosts(5)
    clone = make(tmp_path_factory.mktemp("fleet"), hosts.inventory)
    quicken(clone)
    _ORIGINAL["text"] = (clone.root / "service" / "app" / "__init__.py").read_text()
    clone.done("deploy", "-H", "all", "--canary", "0", "--batch", "100%")
    return Fleet(clone, hosts)


def _with_dead_host(fleet: Fleet, tmp_path: Path, address: str, port: int = 22) -> Clone:
    """Return the clone with a sixth host, third in the file, that is unreachable or not the expected one."""
    text = fleet.hosts.inventory.read_text()
    before, mark, after = text.partition("  shire03:")
    inventory = tmp_path / "hosts.yaml"
    inventory.write_text(f"{before}  dead: {{address: {address}, port: {port}, user: deploy}}\n{mark}{after}")
    return Clone(fleet.clone.root, inventory)


def test_waves_go_in_the_order_of_the_inventory_and_say_so(fleet: Fleet) -> None:
    new = fleet.edit()
    ended = fleet.clone.done("deploy", "-H", "all")
    assert fleet.serve() == [new] * 5
    waves = [line for line in ended.out.splitlines() if line.startswith("-- wave")]
    assert waves == ["-- wave 1 of 3: shire01", "-- wave 2 of 3: shire02, shire03", "-- wave 3 of 3: shire04, shire05"]
    done = [line.split()[0] for line in ended.out.splitlines() if "  DEPLOYED  " in line]
    assert done[0] == "shire01"
    assert set(done[1:3]) == {"shire02", "shire03"}


def test_a_dead_host_within_the_limit_is_left_behind_and_can_be_taken_up_again(fleet: Fleet, tmp_path: Path) -> None:
    new = fleet.edit()
    clone = _with_dead_host(fleet, tmp_path, "198.19.255.254")
    ended = clone.fab("deploy", "-H", "all", "--max-failures", "1", "-t", "2")
    assert ended.status == 3, ended.both
    assert fleet.serve() == [new] * 5
    assert "dead     -" in ended.out
    assert "5 deployed, 1 unreachable" in ended.out
    again = clone.fab("deploy", "--retry-failed", "-t", "2")
    assert again.status == 3
    assert "shire" not in again.out


def test_a_dead_host_beyond_the_limit_stops_before_anything_is_activated(fleet: Fleet, tmp_path: Path) -> None:
    old, _ = fleet.serve()[0], fleet.edit()
    ended = _with_dead_host(fleet, tmp_path, "198.19.255.254").fab("deploy", "-H", "all", "-t", "2")
    assert ended.status == 3
    assert fleet.serve() == [old] * 5
    last = ended.out.splitlines()[-1]
    assert last.endswith("fab deploy -H all,-dead")
    assert "5 not begun" in ended.out


def test_a_host_that_never_speaks_ssh_costs_one_timeout_of_the_whole_run(fleet: Fleet, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        held: list[socket.socket] = []
        thread = threading.Thread(target=lambda: held.extend(silent.accept()[0] for _ in range(1)), daemon=True)
        thread.start()
        clone = _with_dead_host(fleet, tmp_path, "127.0.0.1", silent.getsockname()[1])
        ended = clone.fab("status", "-t", "2", "--json")
    assert ended.status == 3
    found = {host["host"]: host["reachable"] for host in ended.json()["hosts"]}
    assert found == {**dict.fromkeys(NAMES, True), "dead": False}
    assert "does not speak SSH" in ended.out
    thread.join()
    for sock in held:
        sock.close()


def test_a_bad_canary_leaves_all_other_hosts_untouched(fleet: Fleet) -> None:
    old = fleet.serve()[0]
    before = [machine.sh("cat /opt/apps/myapp/history.jsonl | wc -l").stdout for machine in fleet.hosts]
    bad = fleet.edit("raise RuntimeError('nowhere')")
    ended = fleet.clone.fab("deploy", "-H", "all")
    assert ended.status == 1
    assert "RuntimeError: nowhere" in ended.out
    assert "4 not begun (shire02, shire03, shire04, shire05)" in ended.out
    # The log of the run is whole: every step, and the journal's lines.
    (path,) = [line.removeprefix("log of this run: ") for line in ended.out.splitlines() if "log of this run" in line]
    log = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert {line["event"] for line in log} >= {"step", "log", "failed", "notice"}
    assert any("RuntimeError: nowhere" in line.get("text", "") for line in log if line["event"] == "log")
    assert Path(path).stat().st_mode & 0o077 == 0
    assert fleet.serve() == [old] * 5
    after = [machine.sh("cat /opt/apps/myapp/history.jsonl | wc -l").stdout for machine in fleet.hosts]
    assert after[1:] == before[1:]
    assert after[0] != before[0]
    for machine in fleet.hosts:
        assert bad not in machine.sh("readlink /opt/apps/myapp/slots/*/release | tail -n 1; true").stdout.decode() or (
            machine.name == "shire01"
        )


@pytest.mark.further("tests/traffic/test_traffic_fleet.py::test_an_undo_loses_no_request")
def test_a_failure_in_the_third_wave_can_undo_all_that_went_before_it(fleet: Fleet) -> None:
    old = fleet.serve()[0]
    fleet.edit(FAILS_ON_SHIRE04)
    with watched(*(machine.address for machine in fleet.hosts)) as log:
        ended = fleet.clone.fab("deploy", "-H", "all", "--on-failure", "undo")
    assert ended.status == 1
    assert fleet.serve() == [old] * 5
    assert log.lost == []
    assert len(log.requests) > 100
    assert "undone" in ended.out
    assert fleet.clone.fab("history", "--json").json()["hosts"][0]["actions"][-1]["action"] == "undo"


def test_a_stopped_run_says_what_runs_side_by_side_and_what_takes_it_back(fleet: Fleet) -> None:
    old = fleet.serve()[0]
    new = fleet.edit(FAILS_ON_SHIRE04)
    ended = fleet.clone.fab("deploy", "-H", "shire01,shire04,shire05", "--batch", "1")
    assert ended.status == 1
    assert fleet.serve() == [new, old, old, old, old]
    assert f"the new release on shire01; {old} on the others" in ended.out
    assert ended.out.splitlines()[-1].endswith("fab rollback -H shire01")
    fleet.clone.done("rollback", "-H", "shire01")
    assert fleet.serve() == [old] * 5


def test_before_activate_runs_once_for_five_hosts_in_three_waves(fleet: Fleet) -> None:
    old = fleet.serve()[0]
    fleet.clone.write("service/migrate.py", "import os\nprint('migrating', os.environ['RELEASE'], os.getuid())\n")
    yaml = fleet.clone.root / "service" / "service.yaml"
    plain = yaml.read_text()
    yaml.write_text(plain + 'hooks: {before_activate: "python migrate.py"}\n')
    try:
        new = fleet.edit()
        ended = fleet.clone.done("deploy", "-H", "all")
        ran = [
            machine.sh("journalctl --sync; journalctl -q -o cat -t myapp-hook | grep -c migrating; true").stdout
            for machine in fleet.hosts
        ]
        assert [int(count) for count in ran] == [1, 0, 0, 0, 0]
        assert f"migrating {new}" in ended.out
        assert f"migrating {new} 0" not in ended.out
        # A hook that fails stops the run before any release is live.
        yaml.write_text(plain + 'hooks: {before_activate: "python -c raise(SystemExit(3))"}\n')
        fleet.edit()
        failed = fleet.clone.fab("deploy", "-H", "all")
        assert failed.status == 1
        assert "before_activate failed" in failed.out
        assert fleet.serve() == [new] * 5
    finally:
        yaml.write_text(plain)
    assert old != new


def test_each_host_is_taken_out_of_the_balancer_and_always_put_back(fleet: Fleet, tmp_path: Path) -> None:
    log = tmp_path / "balancer.log"
    script = tmp_path / "balancer"
    script.write_text(f'#!/bin/sh\necho "$1 $HOST $ADDRESS $SERVICE $RELEASE" >>{log}\n')
    script.chmod(0o755)
    yaml = fleet.clone.root / "service" / "service.yaml"
    plain = yaml.read_text()
    yaml.write_text(plain + f'hooks: {{drain: "{script} out", undrain: "{script} in"}}\n')
    try:
        new = fleet.edit(FAILS_ON_SHIRE04)
        ended = fleet.clone.fab("deploy", "-H", "shire03,shire04")
    finally:
        yaml.write_text(plain)
    assert ended.status == 1
    addresses = {machine.name: machine.address for machine in fleet.hosts}
    assert log.read_text().splitlines() == [
        f"{word} {host} {addresses[host]} myapp {new}" for host in ("shire03", "shire04") for word in ("out", "in")
    ]
