"""An activation cut at every call it makes: a whole release serves then, and the same command finishes the job."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.engine.host import steps
from tasks.engine.host.steps import Activation
from tests.promises.words import WHOLE
from tests.support.simulated_host import NEW, OLD, OOM, SERVICE, SHARES, SimulatedHost, host, serving

__all__ = ["host"]

FRONT = 14
"""The call that asks the front door once it has the traffic."""
DEPLOY = steps.activate(SERVICE, Activation("deploy", NEW, OLD))


def cut_everywhere(folder: Path, signal: str, share: int) -> list[tuple[str, SimulatedHost, int]]:
    """Cut a run right after each call of this share of a good run's; return each host and exit status."""

    def cut(number: int) -> tuple[SimulatedHost, int]:
        (folder / str(number)).mkdir()
        host = serving(SimulatedHost(folder / str(number)))
        host.cut(number, signal)
        status = host.execute(DEPLOY)
        host.mend()
        return host, status

    whole, status = cut(0)
    assert status == 0
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(cut, range(1 + share, len(whole.calls) + 1, SHARES)))
    return [(call, *one) for call, one in zip(whole.calls[share::SHARES], found, strict=True)]


def has_committed(host: SimulatedHost) -> bool:
    """Return true if the run passed the point of no return."""
    return "link apps/current -> slots/green" in host.calls


@pytest.mark.promise(WHOLE, "SIGTERM after any call of an activation, on a simulated host", part=1)
@pytest.mark.parametrize("share", range(SHARES))
def test_a_signal_anywhere_undoes_it_or_finishes_it(tmp_path: Path, share: int) -> None:
    """Once: cut between the commit and its end, a host kept workers of the old release."""
    for call, cut, status in cut_everywhere(tmp_path, "TERM", share):
        done = has_committed(cut)
        # Before the first change there is nothing to undo, and no trap.
        assert status in {129, 0} or not cut.history(), call
        assert (cut.serves(), cut.slot("current")) == ((NEW, "green") if done else (OLD, "blue")), call
        assert cut.slot("live") == cut.slot("current"), call
        assert (cut.running(), cut.leftovers()) == ({"green"} if done else {"blue"}, []), call
        assert cut.state("myapp@green.service") in {"active", "inactive"}, call
        assert cut.workers() == cut.running(), call
        if done:
            assert cut.history() == [("deploy", NEW, "started"), ("deploy", NEW, "done")], call
        else:
            assert cut.history()[1:] in ([], [("deploy", NEW, "failed")]), call


@pytest.mark.parametrize("signal", ["HUP", "INT"])
def test_other_signals_are_no_different(host: SimulatedHost, signal: str) -> None:
    host.cut(FRONT, signal)
    assert host.execute(DEPLOY) == 129
    assert host.calls[FRONT - 1] == "curl https://myapp.example/readyz"
    assert host.transcript.last("failed") == "interrupted"
    assert (host.serves(), host.running(), host.leftovers()) == (OLD, {"blue"}, [])


def test_a_broken_pipe_ends_nothing(host: SimulatedHost) -> None:
    host.cut(FRONT, "PIPE")
    assert host.execute(DEPLOY) == 0
    assert (host.serves(), host.running()) == (NEW, {"green"})


@pytest.mark.promise(WHOLE, "SIGKILL after any call of an activation, on a simulated host", part=1)
@pytest.mark.parametrize("share", range(SHARES))
def test_after_a_kill_anywhere_a_boot_has_one_whole_release_and_the_next_run_recovers(
    tmp_path: Path, share: int
) -> None:
    """Once: killed right after the commit, a deploy left the further processes behind, and reported success when
    repeated.
    """

    def recover(cut: tuple[str, SimulatedHost, int]) -> None:
        call, host, status = cut
        assert status in {-9, 0}, call
        committed = NEW if has_committed(host) else OLD
        assert (host.root / "current/release").resolve().name == committed, call
        assert host.serves() in {OLD, NEW}, call
        host.forget()
        assert host.execute(steps.activate(SERVICE, Activation("deploy", NEW, committed))) == 0, (call, host.transcript)
        assert (host.serves(), host.slot("live"), len(host.running())) == (NEW, host.slot("current"), 1), call
        assert host.leftovers() == [], call
        assert host.workers() == host.running(), call

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(recover, cut_everywhere(tmp_path, "KILL", share)))


def test_a_boot_while_the_new_release_is_on_trial_is_the_way_back(host: SimulatedHost) -> None:
    host.cut(FRONT, "KILL")
    assert host.execute(DEPLOY) == -9
    assert (host.serves(), host.running()) == (NEW, {"blue", "green"})
    host.mend()
    host.boot()
    assert (host.serves(), host.running()) == (OLD, {"blue"})
    assert host.execute(DEPLOY) == 0
    assert (host.serves(), host.running(), host.leftovers()) == (NEW, {"green"}, [])


def test_output_that_nobody_reads_any_more_ends_in_an_undo_or_is_finished(host: SimulatedHost) -> None:

    def leave() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        host.execute(DEPLOY, at="check", do=leave)
    done = host.slot("current") == "green"
    assert (host.serves(), host.running()) == ((NEW, {"green"}) if done else (OLD, {"blue"}))
    assert host.leftovers() == []
    assert host.workers() == host.running()


def test_a_fault_of_systemd_after_the_commit_is_told_and_keeps_the_new_release(host: SimulatedHost) -> None:
    host.unit("myapp.service").write_text("failed")
    (host.folder / "refuse-myapp.service").touch()
    assert host.execute(DEPLOY) == 1
    assert not host.transcript.ended
    assert (host.serves(), host.running(), host.leftovers()) == (NEW, {"green"}, [])


def test_a_history_that_cannot_be_written_after_the_commit_is_named(host: SimulatedHost) -> None:
    history = host.root / "history.jsonl"
    (host.folder / "on-curl").write_text(f"[ -d {history} ] || {{ rm {history}; mkdir {history}; }}\n")
    assert host.execute(DEPLOY) == 1
    assert (host.transcript.last("failed") or "").endswith("history.jsonl: Is a directory")
    assert (host.serves(), host.running(), host.leftovers()) == (NEW, {"green"}, [])
    assert host.workers() == {"green"}


@pytest.mark.parametrize(("result", "killed"), [("exit-code", None), ("signal", f"deploy {NEW}")])
def test_a_process_that_does_not_stay_up_never_has_its_release_committed(
    host: SimulatedHost, result: str, killed: str | None
) -> None:
    """A signal may come from the former release, which has the same account: then the operator is told the way."""
    (host.folder / "refuse-myapp-worker@green.service").touch()
    (host.folder / "result-myapp-worker@green.service").write_text(result)
    assert host.execute(DEPLOY) == 1
    assert (host.transcript.last("failed") or "").startswith("myapp-worker@green.service does not stay up: ")
    assert host.transcript.last("killed") == killed
    assert (host.serves(), host.running(), host.workers(), host.leftovers()) == (OLD, {"blue"}, {"blue"}, [])


@pytest.mark.parametrize("result", ["signal", "success"])
def test_a_process_that_was_killed_for_want_of_memory_is_told_so_and_its_sibling_is_not_suspected(
    host: SimulatedHost, result: str
) -> None:
    (host.folder / "refuse-myapp-worker@green.service").touch()
    (host.folder / "result-myapp-worker@green.service").write_text(result)
    (host.folder / "journal.oom").write_text(OOM.format("myapp-worker@green.service"))
    assert host.execute(DEPLOY) == 1
    why = host.transcript.last("failed") or ""
    assert "of myapp-worker@green.service was killed for want of memory (OOM). Raise limits.memory" in why
    assert host.transcript.last("killed") is None
    assert host.serves() == OLD


def test_a_release_that_runs_or_is_among_the_newest_is_never_pruned(host: SimulatedHost) -> None:
    names = {"c" * 12: 100, "d" * 12: 200, "e" * 12: 300}
    for name, age in names.items():
        host.release(name)
        os.utime(host.root / "releases" / name, (age, age))
    os.utime(host.root / "releases" / OLD, (1, 1))
    process = host.folder / "proc/301"
    process.mkdir()
    (process / "cmdline").write_bytes(f"{host.root}/releases/{'c' * 12}/venv/bin/python\0-m\0jobs\0".encode())
    (host.folder / "uid").write_text(str(os.getuid()))
    host.venv("2" * 16)
    # Of a prune that was killed: each venv is moved aside first, so that no drift sees half of it.
    (host.root / f"venvs/.part-old-{'2' * 16}/bin").mkdir(parents=True)
    (host.root / "wheels/old-1.whl").touch()
    assert host.execute(DEPLOY) == 0
    left = {path.name for path in (host.root / "releases").iterdir()}
    assert left == {OLD, NEW, "c" * 12, "e" * 12}
    assert {path.name for path in (host.root / "venvs").iterdir()} == {"1" * 16}
    assert not list((host.root / "wheels").iterdir())


def test_its_own_programs_keep_no_release_from_being_pruned(host: SimulatedHost) -> None:
    shutil.rmtree(host.folder / "proc")
    (host.folder / "proc").symlink_to("/proc")
    for age, name in enumerate(("c" * 12, "d" * 12, "e" * 12, "f" * 12)):
        host.release(name)
        os.utime(host.root / "releases" / name, (age, age))
    for name in (OLD, NEW):
        os.utime(host.root / "releases" / name, (100, 100))
    assert host.execute(DEPLOY) == 0
    assert {path.name for path in (host.root / "releases").iterdir()} == {OLD, NEW}


@pytest.mark.parametrize("action", ["undo", "rollback"])
def test_going_back_prunes_no_release_that_the_next_rollback_needs(host: SimulatedHost, action: str) -> None:
    """Once: an undo, which names no such release, pruned it."""
    assert host.execute(DEPLOY) == 0
    before = "c" * 12
    for age, name in enumerate((before, "d" * 12, OLD, NEW)):
        if name not in {OLD, NEW}:
            host.release(name)
        os.utime(host.root / "releases" / name, (age, age))
    history = host.root / "history.jsonl"
    lines = [
        json.dumps({"action": "deploy", "release": name, "state": "done"}, separators=(",", ":"))
        for name in (before, OLD)
    ]
    history.write_text("".join(f"{line}\n" for line in ("{torn", "7", *lines)) + history.read_text())
    assert host.execute(steps.activate(SERVICE, Activation(action, OLD, NEW))) == 0
    assert {path.name for path in (host.root / "releases").iterdir()} == {before, OLD, NEW}
