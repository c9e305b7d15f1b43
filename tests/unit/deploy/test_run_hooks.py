"""The operator's programs around a run: what they are told, and that none of them can hold up or break a run."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from tasks.engine.config.sections import Hooks
from tasks.engine.deploy import run_hooks
from tasks.engine.deploy.prepared import Prepared, Progress
from tasks.engine.deploy.rollout import Rollout
from tasks.engine.deploy.run_hooks import RunHooks
from tasks.engine.deploy.stage import DeployOrder
from tasks.engine.deploy.waves import Policy
from tasks.engine.errors import LoopError, Unreachable
from tasks.engine.fleet.member import Member
from tasks.engine.host.steps import Activation
from tasks.engine.parallel import Stop
from tasks.engine.quote import terminal
from tasks.engine.ssh.session import Run
from tests.support.host_facts import NEW, OLD
from tests.support.small_service import SERVICE

ABOUT = {"action": "deploy", "service": "myapp", "release": NEW}
SAVE = "cat >document"
LASTS = "sleep 1000 & echo $! >pid.new; mv pid.new pid; wait"


def hooks(folder: Path, script: str) -> RunHooks:
    """Return hooks that are all this script, each with its own name as argument."""
    (folder / "hook.sh").write_text(f"{script}\n")
    return RunHooks(Hooks(**{name: f"sh hook.sh {name}" for name in Hooks._fields[3:]}), folder, ABOUT)


def member(number: int = 1, error: LoopError | None = None) -> Member:
    named = cast(Any, type("Host", (), {"name": f"shire{number:02}"}))
    return Member(named, SERVICE, Run("r", "{}"), cast(Any, None), error=error)


def prepared(one: Member, progress: Progress) -> Mapping[str, Prepared]:
    return {one.host.name: Prepared(one, Activation("deploy", NEW, OLD), "", progress)}


def before(made: RunHooks, stop: Stop | None = None) -> list[str]:
    return [event.text for event in made.before([member()], stop if stop is not None else Stop())]


def after(made: RunHooks, *members: Member, stop: Stop | None = None) -> list[str]:
    return [event.text for event in made.after(members or [member()], {}, stop if stop is not None else Stop())]


def document(folder: Path) -> Any:
    return json.loads((folder / "document").read_text())


def test_before_a_run_its_release_and_hosts_are_told(tmp_path: Path) -> None:
    assert before(hooks(tmp_path, f'{SAVE}; echo "$1 in $(pwd -P)"')) == [
        "before_deploy: sh hook.sh before_deploy", f"  | before_deploy in {tmp_path.resolve()}"
    ]  # fmt: skip
    assert document(tmp_path) == {"schema": 1, "hook": "before_deploy", **ABOUT, "hosts": [{"host": "shire01"}]}


@pytest.mark.parametrize(
    ("progress", "error", "hook", "result", "of_host"),
    [
        (Progress.COMMITTED, None, "after_deploy", "done", "done"),
        (Progress.ON_PROBATION, None, "after_deploy", "done", "on probation"),
        (Progress.UNCHANGED, None, "after_deploy", "done", "unchanged"),
        (Progress.FOUND_ON_PROBATION, None, "after_deploy", "done", "unchanged"),
        (Progress.STAGED, LoopError("no", code="broken"), "on_failure", "failed", "failed"),
        (Progress.COMMITTED, LoopError("no", code="broken"), "on_failure", "failed", "failed"),
        (Progress.RETURNED, LoopError("no", code="broken"), "on_failure", "failed", "failed"),
        (Progress.UNDONE, LoopError("no", code="broken"), "on_failure", "failed", "undone"),
        (Progress.STAGED, Unreachable("no", code="broken"), "on_failure", "failed", "unreachable"),
    ],
)
def test_after_a_run_the_end_of_each_host_is_told(
    tmp_path: Path, progress: Progress, error: LoopError | None, hook: str, result: str, of_host: str
) -> None:
    one = member(error=error)
    list(hooks(tmp_path, SAVE).after([one, member(2)], prepared(one, progress), Stop()))
    told = document(tmp_path)
    assert (told["hook"], told["result"], told["action"]) == (hook, result, "deploy")
    assert told["seconds"] >= 0
    said = {"code": "broken", "message": "no"} if error else None
    assert told["hosts"] == [
        {"host": "shire01", "result": of_host, "release": NEW, "before": OLD, "error": said},
        {"host": "shire02", "result": "not begun", "release": None, "before": None, "error": None},
    ]


def test_an_interrupted_run_is_told_as_one(tmp_path: Path) -> None:
    stop = Stop()
    stop.set(signal.SIGINT)
    after(hooks(tmp_path, SAVE), stop=stop)
    assert (document(tmp_path)["hook"], document(tmp_path)["result"]) == ("on_failure", "interrupted")


def test_no_log_line_of_the_service_is_in_the_document(tmp_path: Path) -> None:
    after(hooks(tmp_path, SAVE), member(error=LoopError("it died", detail=("password=hunter2",))))
    assert document(tmp_path)["hosts"][0]["error"] == {"code": "failed", "message": "it died"}
    assert "hunter2" not in (tmp_path / "document").read_text()


def test_a_failure_before_a_run_ends_it_and_one_after_it_is_told(tmp_path: Path) -> None:
    made = hooks(tmp_path, "echo frozen; exit 3")
    with pytest.raises(LoopError) as caught:
        before(made)
    error = caught.value
    assert error.message.endswith("no host was contacted: it ended with status 3")
    assert (error.exit_status, error.code, error.detail) == (1, "before_deploy", ("frozen",))
    assert after(made) == [
        "after_deploy: sh hook.sh after_deploy",
        "  | frozen",
        "after_deploy failed on this machine, which changes nothing of the run: it ended with status 3",
    ]


def test_a_run_that_is_refused_before_it_begins_contacts_no_host(tmp_path: Path) -> None:
    """Its member has no address: a connection would be another error."""
    run = Rollout("deploy", [member()], Policy(), Stop(), lambda _: "", hooks=hooks(tmp_path, f"{SAVE}; exit 1"))
    with pytest.raises(LoopError, match="before_deploy failed on this machine"):
        list(run.deploy(cast(DeployOrder, None)))
    assert document(tmp_path)["hook"] == "before_deploy"


@pytest.mark.parametrize("script", ["exec <&-", "true", "head -c 1 >part", "exec <&- >&- 2>&-"])
def test_the_input_need_not_be_read(tmp_path: Path, script: str) -> None:
    made = hooks(tmp_path, script)._replace(about={"filler": "x" * (1 << 20)})
    assert before(made) == ["before_deploy: sh hook.sh before_deploy"]


def test_what_it_leaves_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    assert after(hooks(tmp_path, "sleep 1000 & echo $! >pid; echo told"))[1:] == ["  | told"]
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_its_output_is_bounded_and_escaped(tmp_path: Path) -> None:
    script = "printf '\\033]0;title\\007\\033[2J\\n'; head -c 3000 /dev/zero | tr '\\0' x; echo; seq 40"
    said = after(hooks(tmp_path, script))[1:]
    assert said == [f"  | {number}" for number in range(21, 41)]
    said = after(hooks(tmp_path, script.removesuffix("; seq 40")))[1:]
    assert [terminal(line) for line in said] == ["  | \\x1b]0;title\\x07\\x1b[2J", f"  | {'x' * 1000}"]


def test_one_that_does_not_end_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds in (1, 8, 64):
        monkeypatch.setattr(run_hooks, "_SECONDS", seconds)
        told = after(hooks(tmp_path, LASTS))[-1]
        if (tmp_path / "pid").exists():
            break
    assert told.endswith(f"it did not end within {seconds} s")
    ends(tmp_path)


@pytest.mark.parametrize("name", ["before_deploy", "after_deploy"])
def test_an_interrupt_ends_it_with_its_children(tmp_path: Path, name: str) -> None:
    stop = Stop()

    def interrupt() -> None:
        while not (tmp_path / "pid").exists():
            time.sleep(0.02)
        stop.set(signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    made = hooks(tmp_path, LASTS)
    told = before(made, stop) if name == "before_deploy" else after(made, stop=stop)
    thread.join()
    assert told[0] == f"{name}: sh hook.sh {name}"
    ends(tmp_path)


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    made = hooks(tmp_path, "")._replace(hooks=Hooks(after_deploy="no-such-program", before_deploy="./hook.sh"))
    assert after(made)[-1].endswith("it cannot be started: No such file or directory")
    with pytest.raises(LoopError, match="it cannot be started: Permission denied"):
        before(made)


def ends(folder: Path) -> None:
    """Wait until the child of LASTS has ended."""
    stat = Path(f"/proc/{int((folder / 'pid').read_text())}/stat")
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.02)
