"""Processes beside web: each counts, and starts, holds and stops with its release."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.moments import meet
from tests.promises.words import GATE
from tests.support.clone import make
from tests.support.echo_service import description, put
from tests.support.hosts import MakeHosts
from tests.support.site import Site
from tests.support.waiting import until

STATE = "/var/lib/myapp"
# Notes its start and its end. It fails if a file says so, and is well if another does; a task is under way while
# there is a third file, and the end of the process waits for that.
WORKER = f"""
import os, signal, sys, time
name, state = sys.argv[1], "{STATE}"
there = lambda what: os.path.exists(f"{{state}}/{{what}}")
def note(what):
    with open(f"{{state}}/notes", "a") as file:
        file.write(f"{{what}} {{name}} {{os.environ['RELEASE']}} {{os.getpid()}}\\n")
def end(*_):
    while there("task"):
        time.sleep(0.05)
    note("end")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
note("start")
while True:
    if there(f"fails-{{os.environ['RELEASE']}}"):
        sys.exit("the worker gives up")
    time.sleep(0.05)
"""
PING = "import os, sys; sys.exit(os.path.exists(f'/var/lib/myapp/ill-{os.environ[\"RELEASE\"]}') and 'ill')\n"


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A service with one worker, live."""
    hosts = module_hosts()
    made = Site(make(tmp_path_factory.mktemp("slotted"), hosts.inventory), hosts[0])
    put(made.clone, processes=worker())
    made.clone.write("service/worker.py", WORKER)
    made.clone.write("service/ping.py", PING)
    made.done("deploy")
    return made


def worker(name: str = "worker", **keys: Any) -> dict[str, Any]:
    return {name: {"command": f"python worker.py {name}", **keys}}


def describe(site: Site, **changes: Any) -> Site:
    """Give the service another description."""
    site.clone.write("service/service.yaml", description(**changes))
    return site


def pids(site: Site, name: str = "worker") -> dict[str, str]:
    """Return the releases of the running processes, by pid."""
    lines = site.sh(f"pgrep -u myapp -af '[w]orker.py {name}' || :").splitlines()
    found = {}
    for line in lines:
        pid = line.split()[0]
        # It may have ended since.
        if place := site.sh(f"readlink /proc/{pid}/cwd || :"):
            found[pid] = place.split("/")[5]
    return found


def come_to(site: Site, *releases: str, name: str = "worker") -> None:
    """Wait until one process of each of these releases runs, and no other: a run waits neither for an end nor, in an
    undo, for a start.
    """
    until(lambda: sorted(pids(site, name).values()) == sorted(releases))


def up(site: Site, name: str = "worker") -> str:
    """Return the state of the process's unit in the committed slot."""
    return site.show(f"myapp-{name}@{site.slot}.service", "ActiveState")


@pytest.mark.promise(GATE, "a worker that ends, in each way that a process can", part=1)
@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("python -c 'raise SystemExit(3)'", "it ended with exit status 3"),
        ("no-such-program", "it ended with exit status 127"),
        ("true", "it ended"),
        ("sh -c 'kill -9 $$'", "signal 9 ended it"),
    ],
)
def test_a_release_whose_worker_does_not_stay_up_is_not_committed(site: Site, command: str, why: str) -> None:
    """Once: a worker that never started was committed with a warning."""
    come_to(site, describe(site, processes=worker()).deploy())
    before, serves = pids(site), site.answering
    ended = describe(site, processes={"worker": {"command": command}}).fab("deploy")
    assert ended.status == 1
    assert f"myapp-worker@{site.other}.service does not stay up: {why}" in " ".join(ended.both.split())
    assert (pids(site), site.answering, up(site)) == (before, serves, "active")
    site.settled()
    describe(site, processes=worker()).deploy()


def test_the_last_lines_of_the_worker_are_shown(site: Site) -> None:
    command = "python -c 'import no_such_module'"
    ended = describe(site, processes={"worker": {"command": command}}).fab("deploy")
    assert ended.status == 1
    assert "ModuleNotFoundError: No module named 'no_such_module'" in ended.both
    describe(site, processes=worker()).deploy()


def test_a_worker_that_fails_in_the_probation_takes_the_host_back(site: Site) -> None:
    old = describe(site, processes=worker(), probation=600).deploy()
    site.done("rollback", "--to", old)
    committed = site.answering
    new = site.edit()
    site.done("deploy")
    come_to(site, new)
    site.sh(f"touch {STATE}/fails-{new}")
    site.sh("flock -w 120 /run/myapp/lock/guard true")
    assert site.answering == committed
    site.settled()
    come_to(site, committed)
    assert "does not stay up: it ended with exit status 1" in " ".join(site.fab("status").out.split())
    describe(site, processes=worker()).deploy()


@pytest.mark.further("test_a_worker_that_fails_in_the_probation_takes_the_host_back")
def test_a_rollback_from_a_probation_starts_the_former_worker_again(site: Site) -> None:
    committed = describe(site, processes=worker()).deploy()
    describe(site, processes=worker(), probation=600)
    new = site.edit()
    site.done("deploy")
    site.sh(f"until grep -qs 'end worker {committed}' {STATE}/notes; do sleep 0.1; done")
    site.done("rollback")
    assert site.answering == committed != new
    come_to(site, committed)
    site.settled()


def test_no_deploy_waits_for_a_task_but_the_one_that_needs_its_slot_and_no_rollback(site: Site) -> None:
    first = describe(site, processes=worker(stop=600)).deploy()
    come_to(site, first)
    site.sh(f"touch {STATE}/task")
    try:
        second = site.deploy()
        assert set(pids(site).values()) == {first, second}
        with site.clone.start("deploy", "-H", "shire01") as unchanged:
            assert unchanged.wait(60) == 0
        site.edit()
        waits = f"until myapp-worker@{site.other}.service has ended its task: 600 s at most"
        ended = meet(site.clone, ("deploy", "-H", "shire01"), waits, lambda _: site.sh(f"rm {STATE}/task"))
        assert ended.status == 0, ended.both
        third = site.answering
        assert third not in {first, second}
        site.sh(f"touch {STATE}/task")
        site.done("rollback")
        assert set(pids(site).values()) == {second, third}
        site.done("rollback", "--to", third)
        assert site.answering == third
    finally:
        site.sh(f"rm -f {STATE}/task")
    come_to(site, third)


def test_a_single_process_is_never_two(site: Site) -> None:
    describe(site, processes=worker("beat", single=True)).deploy()
    site.sh(f"rm -f {STATE}/notes")
    for verb in ("deploy", "restart", "rollback"):
        site.edit()
        site.done(verb)
    describe(site, processes=worker("beat", single=True), probation=2)
    site.edit()
    site.done("deploy", "--wait")
    come_to(site, site.answering, name="beat")
    site.sh(f"until tail -n 1 {STATE}/notes | grep -q ^start; do sleep 0.1; done")
    words = [line.split()[0] for line in site.sh(f"grep ' beat ' {STATE}/notes").splitlines()]
    # The first end is that of the one before.
    assert words == ["end", "start"] * (len(words) // 2)
    assert len(words) >= 8


@pytest.mark.further("test_a_release_whose_worker_does_not_stay_up_is_not_committed")
def test_a_single_process_that_does_not_stay_up_is_not_committed(site: Site) -> None:
    committed = describe(site, processes=worker("beat", single=True)).deploy()
    bad = {"beat": {"command": "python -c 'raise SystemExit(4)'", "single": True}}
    ended = describe(site, processes=bad).fab("deploy")
    assert ended.status == 1
    assert "does not stay up: it ended with exit status 4" in " ".join(ended.both.split())
    assert site.answering == committed
    come_to(site, committed, name="beat")


def test_each_of_several_processes_is_up(site: Site) -> None:
    released = describe(site, processes=worker(count=3)).deploy()
    come_to(site, *[released] * 3)
    states = site.sh(
        f"systemctl is-active myapp-worker@{site.slot} myapp-worker-2@{site.slot} myapp-worker-3@{site.slot}"
    )
    assert states.split() == ["active"] * 3
    site.machine.reboot()
    site.settled()
    come_to(site, *[released] * 3)
    site.done("stop")
    assert pids(site) == {}
    site.done("start")
    come_to(site, *[released] * 3)
    come_to(site, describe(site, processes=worker()).deploy())


def test_a_health_command_says_more_than_that_a_process_is_up(site: Site) -> None:
    processes = worker(health={"command": "python ping.py"})
    committed = describe(
        site, processes=processes, health={"path": "/healthz", "passes": 1, "settle": 0, "timeout": 8}
    ).deploy()
    new = site.edit()
    site.sh(f"touch {STATE}/ill-{new}")
    ended = site.fab("deploy")
    assert ended.status == 1
    told = " ".join(ended.both.split())
    assert f"the health command of myapp-worker@{site.other}.service fails: exit status 1: ill" in told
    assert site.answering == committed
    site.sh(f"rm {STATE}/ill-{new}")
    describe(site, processes=processes, probation=600)
    later = site.edit()
    site.done("deploy")
    assert site.answering == later
    site.sh(f"touch {STATE}/ill-{later}")
    site.sh("flock -w 120 /run/myapp/lock/guard true")
    assert site.answering == committed
    describe(site, processes=worker()).deploy()


def test_a_worker_that_is_restarted_again_and_again_is_not_healthy(site: Site) -> None:
    """Once: `fab status` called a host healthy whose worker was restarted 27 times a minute."""
    released = describe(site, processes=worker()).deploy()
    unit = f"myapp-worker@{site.slot}.service"
    assert site.fab("health").status == 0
    site.kill_until_restarted(unit)
    for verb in ("status", "health"):
        ended = site.fab(verb)
        assert ended.status == 1, ended.both
        assert f"{unit} does not stay up: systemd started it again 1 times" in " ".join(ended.out.split())
    assert "UNHEALTHY" in site.fab("status").out
    assert f"{unit} does not stay up" in " ".join(site.fab("doctor").out.split())
    site.sh(f"systemctl stop {unit}")
    line = site.fab("status", "--json").json()["hosts"][0]
    assert (line["healthy"], line["processes"][unit]["fault"]) == (False, "is inactive")
    # The same content is deployed again, as it does not run as it should.
    assert "UNCHANGED" not in site.done("deploy").out
    assert (site.answering, up(site)) == (released, "active")
