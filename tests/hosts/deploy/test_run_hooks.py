"""Hooks on the controller around each verb, as an operator has them: what they are told, and what they can stop."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.clone import Clone, make
from tests.support.echo_service import APP, description, put
from tests.support.front_door import release_of
from tests.support.hosts import Hosts, MakeHosts

TELLS = 'cat >>told; echo "heard $1"; test ! -e "refuse-$1"\n'
HOOKS = {name: f"sh ops/tell.sh {name}" for name in ("before_deploy", "after_deploy", "on_failure")}
FAILS = f"{APP}\nif os.environ['HOST'] == 'shire02':\n    raise RuntimeError('token=hunter2')\n"


@pytest.fixture(scope="module")
def pair(module_hosts: MakeHosts) -> Hosts:
    """Two hosts."""
    return module_hosts(2)


@pytest.fixture(scope="module")
def clone_there(pair: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with hooks that is deployed there."""
    clone = put(make(tmp_path_factory.mktemp("hooks"), pair.inventory), hooks=HOOKS)
    clone.write("ops/tell.sh", TELLS)
    ended = clone.done("deploy", "-H", "all")
    assert ended.out.index("heard before_deploy") < ended.out.index("connect") < ended.out.index("heard after_deploy")
    before, after = told(clone)
    assert [(one["hook"], one["action"]) for one in (before, after)] == [
        ("before_deploy", "deploy"), ("after_deploy", "deploy")
    ]  # fmt: skip
    assert before["hosts"] == [{"host": "shire01"}, {"host": "shire02"}]
    assert before["run"] == after["run"]
    assert (after["result"], after["who"]["user"], after["service"]) == ("done", before["who"]["user"], "myapp")
    assert {one["result"] for one in after["hosts"]} == {"done"}
    assert {one["release"] for one in after["hosts"]} == {before["release"]} == {clone.release()}
    return clone


def told(clone: Clone) -> list[Any]:
    """Return the documents that the hooks got since the last look."""
    path = Path(clone.root / "told")
    documents = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    path.unlink(missing_ok=True)
    return documents


def outcomes(clone: Clone) -> list[tuple[str, str, str | None]]:
    return [(one["hook"], one["action"], one.get("result")) for one in told(clone)]


def test_restart_and_rollback_tell_as_a_deploy_does(clone_there: Clone) -> None:
    first = clone_there.release()
    clone_there.write("service/echo.py", f"{APP}\n# another\n")
    clone_there.done("deploy", "-H", "shire01")
    told(clone_there)
    clone_there.done("restart", "-H", "shire01")
    assert outcomes(clone_there) == [("before_deploy", "restart", None), ("after_deploy", "restart", "done")]
    clone_there.done("rollback", "-H", "shire01")
    before, after = told(clone_there)
    assert (before["hook"], before["action"], before["release"]) == ("before_deploy", "rollback", None)
    assert [(one["result"], one["release"]) for one in after["hosts"]] == [("done", first)]
    put(clone_there, hooks=HOOKS)
    # Queries and dry runs tell nothing.
    for words in (("plan",), ("deploy", "--dry"), ("status",)):
        clone_there.done(*words, "-H", "shire01")
    assert told(clone_there) == []


def test_a_failure_and_its_undo_are_told_without_what_the_service_has_logged(clone_there: Clone, pair: Hosts) -> None:
    first = release_of(pair[0].address)
    clone_there.write("service/echo.py", FAILS)
    try:
        ended = clone_there.fab("deploy", "-H", "all", "--on-failure", "undo")
    finally:
        clone_there.write("service/echo.py", APP)
    assert ended.status == 1, ended.both
    assert "hunter2" in ended.out
    before, after = told(clone_there)
    assert (before["hook"], after["hook"], after["result"]) == ("before_deploy", "on_failure", "failed")
    assert [one["result"] for one in after["hosts"]] == ["undone", "failed"]
    assert "hunter2" not in json.dumps(after)
    assert release_of(pair[0].address) == first


def test_before_deploy_stops_the_run_before_any_contact(clone_there: Clone, pair: Hosts) -> None:
    clone_there.write("refuse-before_deploy", "")
    clone_there.write("service/echo.py", f"{APP}\n# refused\n")
    logins = "journalctl --sync; journalctl -q -o cat -t sshd | grep -c Accepted"
    before = pair[0].sh(logins).stdout
    try:
        ended = clone_there.fab("deploy", "-H", "shire01")
    finally:
        (clone_there.root / "refuse-before_deploy").unlink()
        clone_there.write("service/echo.py", APP)
    assert ended.status == 1
    assert "before_deploy failed on this machine, and no host was contacted: it ended with status 1" in ended.err
    assert pair[0].sh(logins).stdout == before
    assert outcomes(clone_there) == [("before_deploy", "deploy", None)]


def test_another_hook_that_fails_is_told_and_changes_nothing(clone_there: Clone) -> None:
    clone_there.write("refuse-after_deploy", "")
    ended = clone_there.done("restart", "-H", "shire01", "--json")
    (clone_there.root / "refuse-after_deploy").unlink()
    texts = [line["text"] for line in ended.lines() if line["event"] == "notice"]
    assert texts[-1].startswith("after_deploy failed on this machine, which changes nothing of the run: it ended with")
    told(clone_there)


def test_an_interrupt_during_before_deploy_ends_it_and_the_run_is_told_as_interrupted(
    clone_there: Clone, pair: Hosts
) -> None:
    lasts = {**HOOKS, "before_deploy": "sh ops/lasts.sh"}
    clone_there.write("ops/lasts.sh", "echo $$ >begun.part; mv begun.part begun; exec sleep 1000\n")
    clone_there.write("service/service.yaml", description(hooks=lasts))
    try:
        with clone_there.start("deploy", "-H", "shire01") as process:
            begun = clone_there.root / "begun"
            while not begun.exists():
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=300)
        assert process.returncode == 130, out + err
        assert not Path(f"/proc/{begun.read_text().strip()}").exists()
    finally:
        clone_there.write("service/service.yaml", description(hooks=HOOKS))
    assert outcomes(clone_there) == [("on_failure", "deploy", "interrupted")]
    assert release_of(pair[0].address)


def test_no_host_has_such_a_hook_of_its_own(clone_there: Clone) -> None:
    inventory = clone_there.inventory
    assert inventory
    text = inventory.read_text()
    mine = clone_there.root / "mine.yaml"
    own = "    service: {hooks: {after_deploy: x}}\n"
    mine.write_text(text.replace("  shire01:\n", f"  shire01:\n{own}"))
    clone_there.environment["HOSTS"] = str(mine)
    clone_there.inventory = None
    try:
        ended = clone_there.fab("plan", "-H", "shire01")
    finally:
        clone_there.inventory = inventory
        del clone_there.environment["HOSTS"]
    assert ended.status == 2
    assert "after_deploy runs once for all hosts" in ended.err
