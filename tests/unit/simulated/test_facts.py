"""Parts shared by the steps, under the real shells: the facts of a host, and its state."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.engine.host import facts, host_program, steps
from tasks.engine.host.questions import WANTS, Question
from tasks.engine.host.steps import Activation
from tests.support.simulated_host import NEW, OLD, SERVICE, SimulatedHost, host, serving, simulated_host
from tests.unit.simulated.test_activate_cut import FRONT

__all__ = ["host", "simulated_host"]
ROOT = Path(__file__).resolve().parents[3]


EVERYTHING = Question(frozenset(WANTS) - {"rights", "journal", "contents"})


def ask(host: SimulatedHost, question: Question = EVERYTHING) -> facts.Facts:
    assert host.execute(steps.facts(SERVICE, question)) == 0
    return facts.parse(host.transcript)


def test_facts_of_a_host_that_serves(simulated_host: SimulatedHost) -> None:
    found = ask(serving(simulated_host))
    assert (found.committed_release, found.state.current, found.state.live) == (OLD, "blue", "blue")
    assert (found.healthy, found.settled) == (True, True)
    assert found.manifest is not None
    assert set(found.manifest) == {"app.py"}
    assert found.state.venvs == ("1" * 16,)
    assert found.state.slots["blue"].release == OLD
    assert found.machine.time > 1_700_000_000
    assert found.survey.free_bytes > 0
    assert found.pythons


def test_facts_change_nothing(host: SimulatedHost) -> None:
    before = sorted((str(path), path.lstat().st_mtime_ns) for path in host.root.rglob("*"))
    ask(host)
    assert sorted((str(path), path.lstat().st_mtime_ns) for path in host.root.rglob("*")) == before
    assert not [call for call in host.calls if call.split(" ")[1] in {"start", "stop", "restart", "reset-failed"}]


def test_facts_that_are_followed_by_a_step_leave_no_lock_open(host: SimulatedHost) -> None:
    """The simulated host ends a program that waits for the next step with a file of the host open."""
    assert ask(host, EVERYTHING._replace(followed=True, wait=1, watch=1)).state
    assert not [call for call in host.calls if call.startswith("left open")]


@pytest.mark.parametrize(
    ("release", "followed", "told"), [(NEW, True, OLD), ("", True, OLD), (OLD, True, None), (NEW, False, None)]
)
def test_facts_tell_first_that_a_run_will_change_the_host(
    host: SimulatedHost, release: str, followed: bool, told: str | None
) -> None:
    ask(host, EVERYTHING._replace(release=release, followed=followed))
    assert host.transcript.last(host_program.DIFFERS) == told
    assert (next(iter(host.transcript.reports)) == host_program.DIFFERS) == (told is not None)


def test_facts_of_a_host_that_has_nothing_yet(simulated_host: SimulatedHost) -> None:
    shutil.rmtree(simulated_host.root)
    shutil.rmtree(simulated_host.run_folder)
    found = ask(simulated_host)
    assert (found.committed_release, found.account, found.release_ids, found.settled) == (None, None, (), False)
    assert found.machine.tools["tar"]


def test_facts_read_no_record_that_is_none_and_of_none_more_than_a_line(host: SimulatedHost) -> None:
    for name in (OLD, NEW, "c" * 12):
        (host.root / "releases" / name).mkdir(exist_ok=True)
    (host.root / "releases" / OLD / "release.json").write_text(f'{{"id":\n"{OLD}"}}\n')
    os.mkfifo(host.root / "releases" / NEW / "release.json")
    (host.root / "releases" / ("c" * 12) / "release.json").write_text("x" * 10**6)
    assert ask(host).release_ids == (OLD,)
    assert max(map(len, host.transcript.all("release"))) <= 2 * 65536


def test_facts_tell_a_traffic_that_is_on_trial_and_a_release_that_is_ill(host: SimulatedHost) -> None:
    (host.folder / "answers" / OLD).write_text("503")
    found = ask(host)
    assert found.state.health.slot.startswith("answered 503, not 200")
    host.cut(FRONT, "KILL")
    (host.folder / "answers" / OLD).unlink()
    host.forget()
    host.execute(steps.activate(SERVICE, Activation("deploy", NEW, OLD)))
    host.mend()
    found = ask(host)
    assert (found.state.live, found.settled) == ("green", False)


def test_facts_carry_the_history_in_order_and_no_more_than_was_asked(host: SimulatedHost) -> None:
    lines = [json.dumps({"action": "deploy", "release": str(number), "state": "done"}) for number in range(9)]
    (host.root / "history.jsonl").write_text("\n".join([*lines, '{"torn": ']))
    found = ask(host, Question(history=4))
    assert [action.release for action in found.actions] == ["6", "7", "8"]


def test_facts_wait_for_an_activation_that_goes_on_without_its_link(host: SimulatedHost) -> None:
    with (host.run_folder / "lock/activate").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert ask(host, Question(wait=1)).state.activating
    assert not ask(host, Question(wait=30)).state.activating


def test_files_are_told_by_digest_and_shown_when_asked(simulated_host: SimulatedHost) -> None:
    path = simulated_host.folder / "unit"
    path.write_bytes(b"text \x00\xff\n")
    assert ask(simulated_host, Question(files=(str(path),))).contents == {}
    assert ask(simulated_host, Question(frozenset({"contents"}), (str(path),))).contents == {
        str(path): path.read_bytes()
    }


@pytest.mark.skipif(
    shutil.which("shellcheck") is None, reason="shellcheck is a tool of developers, `make check` needs it"
)
def test_every_script_passes_shellcheck() -> None:
    answer = subprocess.run([ROOT / ".ci/shellcheck"], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
