"""A host set up by an older version: every clone detects it, and setup migrates it while it serves."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.engine.sandbox import Machine
from tests.promises.words import MOVED
from tests.support.clone import ROOT as PROJECT
from tests.support.clone import Clone, make
from tests.support.echo_service import deployed, put
from tests.support.front_door import release_of
from tests.support.git_repository import git
from tests.support.hosts import Hosts, MakeHosts
from tests.support.site import ROOT, Site
from tests.traffic import load as loads

pytestmark = pytest.mark.long

FORMER = "4efa8bf"
"""The last commit of the first layout."""
SECOND = "0d7d8a4"
"""The last commit of the second one, in which processes had no slots."""
LOCAL = "127.0.0.1:8080"
NEEDED = "an older version of this tool set the host up"


def former_clone(folder: Path, hosts: Hosts, commit: str = FORMER) -> Clone:
    """Return a clone of the project as it was; skip without the project's history."""
    parts = ("fabfile.py", "fabric.yaml", "hosts.yaml", "tasks", "templates", "service")
    packed = subprocess.run(["git", "-C", PROJECT, "archive", commit, *parts], capture_output=True, check=False)
    if packed.returncode:
        pytest.skip(f"the history of the project is not here, so there is no {commit}")
    root = folder / "clone"
    root.mkdir(parents=True)
    (folder / "home").mkdir()
    subprocess.run(["tar", "-x", "-C", root], input=packed.stdout, check=True)
    (root / ".gitignore").write_text("__pycache__/\n/.sandbox/\n")
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "-c", "user.name=tests", "-c", "user.email=tests@example", "commit", "-q", "-m", "as cloned")
    return Clone(root, hosts.inventory)


@contextmanager
def requests_inside(machine: Machine) -> Iterator[list[str]]:
    """Send requests to `listen:` for the block; yield the answers, filled at its end."""
    client = (
        "rm -f /tmp/answers /tmp/enough; until [ -e /tmp/enough ]; do curl -sS --max-time 20 "
        f"http://{LOCAL}/slow/0.2 >>/tmp/answers 2>&1 || echo LOST >>/tmp/answers; done"
    )
    thread = threading.Thread(target=machine.sh, args=(client, b"", 600))
    thread.start()
    seen: list[str] = []
    try:
        yield seen
    finally:
        machine.sh("touch /tmp/enough")
        thread.join()
        seen += [line for line in machine.sh("cat /tmp/answers").stdout.decode().splitlines() if line.strip()]


@pytest.mark.promise(MOVED, "a host of the first layout, under load")
def test_a_host_that_serves_is_moved_and_no_request_is_lost(hosts: MakeHosts, tmp_path: Path) -> None:
    made = hosts()
    former = former_clone(tmp_path / "former", made)
    deployed(former, made, listen=LOCAL)
    put(former, listen=LOCAL, env={"EDITION": "1"}).done("deploy", "-H", "shire01")
    released = former.release()
    clone = make(tmp_path / "now", made.inventory)
    put(clone, listen=LOCAL, env={"EDITION": "1"})
    site = Site(clone, made[0])
    site.sh(f"test -S /run/myapp/{site.slot}.sock && readlink /run/myapp/ctl/live && ls {ROOT}/.activating")
    for verb in ("restart", "rollback", "stop", "start"):
        ended = clone.fab(verb, "-H", "shire01")
        assert ended.status == 1
        assert NEEDED in ended.out
        assert "fab setup -H shire01" in ended.out
    assert "healthy" in clone.fab("status", "-H", "shire01").out
    load = loads.Load([made[0].address], turn=loads.STOCK, rate=50, kept=10, streams=0)
    main = site.main_pid
    with requests_inside(made[0]) as answers, loads.sent(load, tmp_path / "load.jsonl"):
        load.quiet(1)
        with load.during("setup"):
            told = clone.done("setup", "-H", "shire01")
        assert "systemctl restart myapp-listen.service" in told.out
        assert site.main_pid == main
        assert site.sh("readlink /run/myapp/live") == site.slot
        put(clone, listen=LOCAL, env={"EDITION": "2"})
        deployed_now, address = clone.release(), made[0].address
        with load.during("deploy", {address: (released, deployed_now)}):
            clone.done("deploy", "-H", "shire01")
        with load.during("rollback", {address: (deployed_now, released)}):
            clone.done("rollback", "-H", "shire01")
        load.quiet(1)
    assert load.history.faults() == []
    assert [line for line in answers if "release" not in line] == []
    assert site.answering == released
    ended = former.fab("deploy", "-H", "shire01")
    assert (ended.status, ended.out.count("FAILED")) == (1, 1)
    assert "of layout 3, which needs a newer version of this tool" in ended.out
    left = (
        f"find {ROOT} -maxdepth 1 -name '.*' -type f; ls {ROOT}/slots/*/http.sock /run/myapp/ctl/door 2>/dev/null || :"
    )
    assert site.sh(left) == ""
    site.settled()
    site.machine.reboot()
    site.settled()
    assert site.sh("ls /run/myapp/ctl") == ""
    assert released in site.sh(f"curl -sS http://{LOCAL}/healthz")
    assert "/run/myapp/live/http.sock" in site.sh("pgrep -a systemd-socket")
    assert release_of(made[0].address) == released
    clone.done("rollback", "-H", "shire01", "--to", deployed_now)
    assert site.answering == deployed_now
    assert "no drift" in clone.done("drift", "-H", "shire01", "--as", "root").out


@pytest.mark.further("test_a_host_that_serves_is_moved_and_no_request_is_lost")
@pytest.mark.promise(MOVED, "a slot that dies between setup and the next deploy")
def test_a_host_that_was_moved_starts_its_slot_again(hosts: MakeHosts, tmp_path: Path) -> None:
    made = hosts()
    former = deployed(former_clone(tmp_path / "former", made), made)
    clone = put(make(tmp_path / "now", made.inventory))
    clone.done("setup", "-H", "shire01")
    site = Site(clone, made[0])
    site.kill_until_restarted(f"myapp@{site.slot}.service", "all")
    assert site.answering == former.release()
    site.sh("systemctl restart myapp")
    assert site.answering == former.release()


@pytest.mark.further("test_a_host_that_serves_is_moved_and_no_request_is_lost")
@pytest.mark.promise(MOVED, "a release on probation when a host is moved")
def test_a_move_ends_a_probation_and_the_committed_release_serves(hosts: MakeHosts, tmp_path: Path) -> None:
    """Once: a host of the first layout that was migrated during a probation would have answered 502 at its end."""
    made = hosts()
    former = deployed(former_clone(tmp_path / "former", made), made, probation=60)
    committed = former.release()
    put(former, probation=60, env={"EDITION": "2"}).done("deploy", "-H", "shire01")
    assert release_of(made[0].address) == former.release()
    clone = put(make(tmp_path / "now", made.inventory), probation=60)
    site = Site(clone, made[0])
    clone.done("setup", "-H", "shire01")
    assert site.sh("systemctl list-units --plain --no-legend --state=active 'myapp-probation@*'") == ""
    assert site.answering == committed
    put(clone, env={"EDITION": "3"}).done("deploy", "-H", "shire01")
    site.settled()
    assert site.answering == clone.release()


def test_a_setup_of_the_former_layout_waits_for_its_lock(hosts: MakeHosts, tmp_path: Path) -> None:
    made = hosts()
    deployed(former_clone(tmp_path / "former", made), made)
    clone = put(make(tmp_path / "now", made.inventory))
    site = Site(clone, made[0])
    site.sh(f"flock {ROOT}/.activating sleep 600 </dev/null >/dev/null 2>&1 & echo $! >/run/holder; "
            f"while flock -n {ROOT}/.activating true; do :; done")  # fmt: skip
    ended = clone.fab("setup", "-H", "shire01")
    assert ended.status == 1
    assert "is at work here" in ended.out
    assert site.sh("ls /run/myapp") == "blue.sock\nctl\ntry"
    site.sh("kill $(cat /run/holder) $(pgrep -P $(cat /run/holder))")
    clone.done("deploy", "-H", "shire01")
    site.settled()


@pytest.mark.further("test_a_host_that_serves_is_moved_and_no_request_is_lost")
@pytest.mark.promise(MOVED, "processes of a host of the second layout")
def test_a_process_without_a_slot_goes_on_in_the_live_slot(hosts: MakeHosts, tmp_path: Path) -> None:
    made = hosts()
    processes = {"worker": {"command": "sleep infinity"}, "nightly": {"command": "true", "schedule": "yearly"}}
    former = deployed(former_clone(tmp_path / "former", made, SECOND), made, processes=processes)
    clone = put(make(tmp_path / "now", made.inventory), processes=processes)
    site = Site(clone, made[0])
    released = former.release()
    assert site.sh("systemctl is-active myapp-worker") == "active"
    assert NEEDED in clone.fab("restart", "-H", "shire01").out
    clone.done("setup", "-H", "shire01")
    worker = f"myapp-worker@{site.slot}.service"
    assert site.sh(f"systemctl is-active {worker} myapp-nightly.timer").split() == ["active", "active"]
    assert site.sh(f"readlink /proc/{site.show(worker, 'MainPID')}/cwd").split("/")[5] == released
    assert site.sh("systemctl is-active myapp-worker || :") == "inactive"
    assert site.answering == released
    site.settled()
    assert "a newer version of this tool has set the host up" in former.fab("deploy", "-H", "shire01").out
    site.deploy()
    site.done("rollback", "--to", released)
    # The former worker ends at its own pace.
    site.sh("until [ $(pgrep -u myapp -x sleep | wc -l) = 1 ]; do sleep 0.1; done")
    site.machine.reboot()
    site.settled()
    assert site.sh(f"systemctl is-active {worker} || systemctl is-active myapp-worker@{site.slot}") != ""
    assert "no drift" in clone.done("drift", "-H", "shire01", "--as", "root").out


def test_a_layout_that_is_not_known_yet_is_told(hosts: MakeHosts, tmp_path: Path) -> None:
    made = hosts()
    clone = deployed(make(tmp_path / "now"), made)
    made[0].sh("sed -i 's/^layout 3/layout 9/' /etc/myapp/setup")
    for verb in ("deploy", "restart", "stop", "setup"):
        ended = clone.fab(verb, "-H", "shire01")
        assert ended.status == 1
        assert "a newer version of this tool has set the host up: its layout is 9, " in ended.out
