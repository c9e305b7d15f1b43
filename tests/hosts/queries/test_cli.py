"""`fab` and a fleet: one call for a selection, exact exit statuses, and a true dry run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from tests.support.clone import Clone
from tests.support.fleet import Fleet, deployed
from tests.support.hosts import MakeHosts
from tests.support.stand_ins import closed_port, entries, mute, write_inventory
from tests.unit.host.test_steps import HEADING


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return deployed(module_hosts, tmp_path_factory.mktemp("cli"), 2)


def position(events: list[Any], **wanted: str) -> int:
    """Return the position of the first event of this kind."""
    return next(at for at, event in enumerate(events) if all(event.get(key) == value for key, value in wanted.items()))


def test_one_call_stages_the_selection_in_parallel_and_activates_it_in_order(fleet: Fleet) -> None:
    new = fleet.edit()
    # The order of the inventory counts, not that of -H.
    events = fleet.clone.done("deploy", "-H", "shire02,shire01", "--json").lines()
    assert all(event["schema"] == 1 for event in events)
    began = {name: position(events, host=name, phase="plan", step="connect") for name in ("shire01", "shire02")}
    staged = {name: position(events, host=name, phase="stage", step="staged") for name in ("shire01", "shire02")}
    assert max(began.values()) < min(staged.values())
    starts = {name: position(events, host=name, phase="activate") for name in ("shire01", "shire02")}
    ends = {name: position(events, host=name, event="finished") for name in ("shire01", "shire02")}
    assert max(staged.values()) < starts["shire01"] < ends["shire01"] < starts["shire02"] < ends["shire02"]
    assert fleet.answering == [new, new]


def test_a_run_stops_at_the_first_failure_and_says_who_was_not_begun(fleet: Fleet) -> None:
    before = fleet.answering
    fleet.edit()
    path = next((fleet.clone.root / "service").rglob("__init__.py"))
    text = path.read_text()
    path.write_text(f"{text}\nraise RuntimeError('broken \\x1b[31m\\u202e on purpose')\n")
    try:
        ended = fleet.clone.fab("deploy", "-H", "all")
    finally:
        path.write_text(text)
    assert ended.status == 1
    assert "shire01  FAILED" in ended.out
    assert "2 hosts: 1 failed, 1 not begun (shire02)" in ended.out
    assert "shire02  activate" not in ended.out
    assert "broken" in ended.out
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", ended.both)
    assert fleet.answering == before


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("shire0?", ["shire01", "shire02"]),
        ("all,-shire01", ["shire02"]),
        ("-shire02", ["shire01"]),
        ("web,-*2", ["shire01"]),
        ("shire02,shire01", ["shire01", "shire02"]),
    ],
)  # fmt: skip
def test_a_selection_knows_groups_globs_and_exclusions(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expression: str, names: list[str]
) -> None:
    hosts = {name: {**entry, "groups": ["web"]} for name, entry in entries(fleet.hosts.inventory).items()}
    monkeypatch.setattr(fleet.clone, "inventory", write_inventory(tmp_path / "hosts.yaml", hosts))
    found = fleet.clone.done("hosts", "--json", "-H", expression).json()
    assert [host["host"] for host in found["hosts"]] == names


def test_a_dead_host_does_not_keep_the_other_from_being_staged_and_is_told_apart(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fleet.answering
    new = fleet.edit()
    hosts = entries(fleet.hosts.inventory)
    hosts["dead"] = {**hosts["shire01"], "address": "127.0.0.1", "port": closed_port()}
    monkeypatch.setattr(fleet.clone, "inventory", write_inventory(tmp_path / "hosts.yaml", hosts))
    ended = fleet.clone.fab("deploy", "-H", "dead,shire01")
    assert ended.status == 3
    assert "dead     UNREACHABLE" in ended.out
    assert "Connection refused" in ended.out
    assert f"shire01  stage     staged: {new}" in ended.out
    assert "1 unreachable, 1 not begun (shire01)" in ended.out
    assert fleet.answering == before

    document = fleet.clone.fab("status", "--json")
    assert document.status == 3
    assert [host["reachable"] for host in document.json()["hosts"]] == [True, True, False]
    assert [error["host"] for error in document.json()["errors"]] == ["dead"]
    # A failed host counts more than an unreachable one.
    assert fleet.clone.fab("exec", "-H", "dead,shire01", "--", "false").status == 1
    assert fleet.clone.fab("--dry", "rollback", "-H", "dead,shire01").out.count("# ---- shire01: activate") == 1


def test_a_host_that_accepts_and_never_speaks_costs_one_timeout(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = entries(fleet.hosts.inventory)
    with mute() as host:
        monkeypatch.setattr(
            fleet.clone, "inventory", write_inventory(tmp_path / "hosts.yaml", {"mute": host.entry(), **hosts})
        )
        ended = fleet.clone.fab("-t", "5", "restart", "-H", "mute,shire01", "--json")
    assert ended.status == 3
    (failed,) = [event for event in ended.lines() if event["event"] == "failed"]
    assert failed["error"]["message"].endswith("the port accepts, and then does not speak SSH")
    assert 5 <= failed["seconds"] < 10
    assert "Traceback" not in ended.err
    assert "Exception" not in ended.err


def close_early(clone: Clone, *words: str) -> tuple[int, str]:
    """Read one line of `fab WORDS` and close the pipe; return its status and its output on stderr."""
    with clone.start(*words) as process:
        # A query that does not notice the closed pipe would never end.
        limit = Timer(120, process.kill)
        limit.start()
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        limit.cancel()
        return process.wait(60), said


def test_a_deploy_whose_reader_has_gone_still_finishes_its_work(fleet: Fleet) -> None:
    new = fleet.edit()
    status, said = close_early(fleet.clone, "deploy", "-H", "all")
    assert status == 0, said
    assert "Traceback" not in said
    assert "Broken" not in said
    assert fleet.answering == [new, new]


@pytest.mark.parametrize(
    "words",
    [["status"], ["plan", "--steps"], ["--list"], ["exec", "-H", "shire01", "--", "yes"], ["logs"]],
    ids=lambda words: words[0],
)
def test_a_closed_pipe_is_quiet_and_ends_a_query(fleet: Fleet, words: list[str]) -> None:
    status, said = close_early(fleet.clone, *words)
    assert "Traceback" not in said
    assert "BrokenPipe" not in said
    assert status == 0, said


VERBS = ["deploy", "rollback", "restart", "stop", "start", "setup", "remove"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_dry_run_prints_scripts_and_changes_nothing(fleet: Fleet, verb: str) -> None:
    fleet.edit()
    look = "find /opt/apps/myapp ! -name '*.pyc' -printf '%p %T@ %l\\n' | sort; systemctl show -p MainPID 'myapp@*'"
    # The host goes on after the deploys of earlier tests.
    fleet.sh(0, "flock -w 50 /run/myapp/lock/guard true")
    before = fleet.sh(0, look)
    ended = fleet.clone.done("--dry", verb, "-H", "shire01")
    assert HEADING.match(ended.out)
    stage = {"deploy": "activate", "rollback": "activate", "restart": "activate"}.get(verb, verb)
    assert f'"step": "{stage}"' in ended.out
    assert fleet.sh(0, look) == before


def test_the_engine_is_compiled_once(clone: Clone) -> None:
    shutil.rmtree(clone.root / "tasks/__pycache__")
    clone.environment["PYTHONDONTWRITEBYTECODE"] = ""
    assert clone.process("--list").status == 0
    assert list((clone.root / "tasks").glob("__pycache__/executor.*.pyc"))
    clone.environment["PYTHONDONTWRITEBYTECODE"] = "1"
    shutil.rmtree(clone.root / "tasks/__pycache__")
    assert clone.process("--list").status == 0
    assert not (clone.root / "tasks/__pycache__").exists()
