"""Two runs on one host: one works, the other names it at once; and no lock ever needs manual unlocking."""

from __future__ import annotations

import json
import signal
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.promises.words import AGAIN, TWO_RUNS
from tests.support.clone import Clone, make, quicken
from tests.support.front_door import release_of
from tests.support.hosts import Hosts, MakeHosts
from tests.support.paused_run import gated


@pytest.fixture(scope="module")
def served(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> tuple[Hosts, tuple[Clone, Clone]]:
    """A host that serves, and two clones of two operators."""
    hosts = module_hosts(1)
    clones = tuple(make(tmp_path_factory.mktemp(name), hosts.inventory) for name in ("ann", "bob"))
    for clone in clones:
        quicken(clone)
        clone.replace("tasks/engine/deploy/run_lock.py", "_PATIENCE = 30", "_PATIENCE = 8")
    clones[0].done("deploy", "-H", "shire01")
    return hosts, (clones[0], clones[1])


@pytest.mark.promise(TWO_RUNS, "two deploys started together", part=1)
@pytest.mark.parametrize("number", range(20))
def test_of_two_deploys_started_together_one_works_and_one_is_told(
    served: tuple[Hosts, tuple[Clone, Clone]], number: int, tmp_path: Path
) -> None:
    """One deploy may be over before the other begins: the holder keeps the lock until the other has reported it."""
    hosts, clones = served
    with ExitStack() as stack:
        gates = []
        for clone, name in zip(clones, "ab", strict=True):
            (tmp_path / name).mkdir()
            gates.append(stack.enter_context(gated(clone, tmp_path / name)))
            clone.write("service/edit.txt", f"{name} {number}\n")
        runs = [clone.start("deploy", "-H", "shire01") for clone in clones]
        executor = stack.enter_context(ThreadPoolExecutor())
        ended = [executor.submit(run.communicate, timeout=120) for run in runs]
        wait(ended, return_when=FIRST_COMPLETED)
        told, works = (0, 1) if ended[0].done() else (1, 0)
        gates[works].open()
        assert "is at work here since" in ended[told].result()[0]
        assert ended[works].result()
        assert (runs[told].returncode, runs[works].returncode) == (1, 0), [one.result() for one in ended]
        assert release_of(hosts[0].address) == clones[works].release()
    # Until its end the guard may be removing a release.
    hosts[0].sh("flock -w 50 /run/myapp/lock/guard true")
    state = hosts[0].sh("cd /opt/apps/myapp && readlink current slots/*/release && ls -A releases; ls /run/myapp/try")
    assert ".part" not in state.stdout.decode()


@pytest.mark.promise(TWO_RUNS, "the second waits with --lock-wait")
def test_who_waits_for_the_lock_gets_it_when_the_other_has_ended(
    served: tuple[Hosts, tuple[Clone, Clone]], tmp_path: Path
) -> None:
    hosts, (ann, bob) = served
    ann.write("service/edit.txt", "ann first\n")
    bob.write("service/edit.txt", "bob after her\n")
    with gated(ann, tmp_path) as gate, ann.start("deploy", "-H", "shire01", "--json") as first:
        assert first.stdout is not None
        next(line for line in first.stdout if json.loads(line).get("phase") == "stage")
        with bob.start("deploy", "-H", "shire01", "--lock-wait", "60") as second:
            assert second.stdout is not None
            # Bob's run waits, and prints that and nothing else: read it before Ann's goes on.
            next(line for line in second.stdout if "is at work here since" in line)
            gate.open()
            first.communicate(timeout=60)
            second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert release_of(hosts[0].address) == bob.release()


@pytest.mark.promise(AGAIN, "the controller is killed, and another deploys")
def test_a_controller_that_is_killed_leaves_no_lock_behind(
    served: tuple[Hosts, tuple[Clone, Clone]],
) -> None:
    hosts, (ann, bob) = served
    ann.write("service/edit.txt", "ann is killed\n")
    bob.write("service/edit.txt", "bob goes on\n")
    with ann.start("deploy", "-H", "shire01", "--json") as first:
        assert first.stdout is not None
        next(line for line in first.stdout if json.loads(line).get("phase") == "stage")
        first.send_signal(signal.SIGKILL)
    bob.done("deploy", "-H", "shire01", "--lock-wait", "60")
    assert release_of(hosts[0].address) == bob.release()


def test_a_host_that_falls_silent_as_its_lock_is_taken_is_told_in_a_sentence(
    served: tuple[Hosts, tuple[Clone, Clone]],
) -> None:
    """Once: a host that fell silent as its lock was taken ended the run in a traceback."""
    hosts, (ann, _) = served
    ann.write("service/edit.txt", "ann is not heard\n")
    ann.environment["FAILPOINT"] = "hold.taken=stall"
    try:
        ended = ann.fab("deploy", "-H", "shire01")
    finally:
        del ann.environment["FAILPOINT"]
        holding = "find /proc/[0-9]*/fd -lname /run/myapp/lock/run 2>/dev/null | cut -d / -f 3 | sort -u"
        hosts[0].sh(f"kill -9 $({holding})")
    assert ended.status == 1, ended.both
    assert "stopped answering while this run took its lock" in ended.both
    assert "Traceback" not in ended.both
    ann.done("deploy", "-H", "shire01")
