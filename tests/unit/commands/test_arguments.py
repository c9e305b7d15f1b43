"""The arguments after `--`, and the pure decisions of the verbs."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks import deploy, executor, runner
from tasks.engine.config.inventory import Host
from tasks.engine.config.nodes import Place
from tasks.engine.config.selection import Selection
from tasks.engine.config.service import Service
from tasks.engine.deploy import rollback
from tasks.engine.errors import LoopError
from tasks.engine.fleet import member
from tasks.engine.host.facts import Facts
from tasks.engine.host.history import Action
from tasks.engine.ssh import ssh_config, ssh_session
from tests.support.host_facts import NEW, OLD, serving
from tests.unit.deploy.test_plan import host


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["uptime; id"], "uptime; id"),
        (["ls", "a b", "$HOME"], "ls 'a b' '$HOME'"),
        (["echo", ""], "echo ''"),
        (["grep", "--", "x"], "grep -- x"),
        (["echo", "it's"], "echo 'it'\"'\"'s'"),
    ],
)
def test_one_word_is_shell_text_and_several_are_what_was_typed(
    monkeypatch: pytest.MonkeyPatch, words: list[str], text: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["fab", "-H", "x", "exec", "--", *words])
    assert executor._words_after_dashes(" ".join(words)) == text


def test_without_dashes_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fab", "exec"])
    assert executor._words_after_dashes("") == ""


class Named:
    """A member with a host's name alone."""

    class host:  # noqa: N801 - as the member spells it
        name = "shire01"


def there(*ids: str, actions: tuple[str, ...] = ()) -> Facts:
    done = tuple(Action("t", "r", "deploy", release, "done", {}) for release in actions)
    return serving()._replace(releases=tuple({"id": one} for one in ids), actions=done)


@pytest.mark.parametrize(
    ("action", "wanted", "found", "release"),
    [
        ("restart", None, there(NEW, OLD), NEW),
        ("rollback", None, there(NEW, OLD, actions=(OLD, NEW)), OLD),
        ("rollback", "aaaa", there(NEW, OLD), OLD),
        ("rollback", OLD, there(NEW, OLD), OLD),
    ],
)
def test_a_rollback_aims_at_the_one_before_or_the_one_that_was_named(
    action: str, wanted: str | None, found: Facts, release: str
) -> None:
    target: Any = Named()
    assert rollback.target_of(target, action, wanted, found) == release


@pytest.mark.parametrize(
    ("action", "wanted", "found", "told"),
    [
        ("restart", None, Facts(), "no release is committed on this host"),
        ("rollback", "cccc", there(NEW, OLD), "release cccc is not on this host"),
        ("rollback", "a", there(NEW, "a1", "a2"), "release a fits more than one release"),
        ("rollback", None, there(NEW), f"there is no release before {NEW} to go back to"),
        ("rollback", None, there(NEW, actions=(OLD, NEW)), f"there is no release before {NEW} to go back to"),
    ],
)
def test_what_cannot_be_aimed_at_is_told_with_the_way_on(
    action: str, wanted: str | None, found: Facts, told: str
) -> None:
    target: Any = Named()
    with pytest.raises(LoopError, match=told) as caught:
        rollback.target_of(target, action, wanted, found)
    assert caught.value.next


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, f"release {NEW}, slot blue, healthy"),
        ({"state health slot": "answered 500"}, f"release {NEW}, slot blue, NOT healthy"),
        ({"state slots blue state": "inactive"}, f"release {NEW}, slot blue, stopped"),
        ({"state slots blue state": "failed"}, f"release {NEW}, slot blue, stopped"),
        ({"state slots blue state": ""}, f"release {NEW}, slot blue, unknown: systemd does not answer"),
        ({"state current": "", "state live": ""}, "nothing: no release is committed"),
    ],
)
def test_what_a_host_serves_is_said_in_words(changes: dict[str, object], told: str) -> None:
    assert member.describe(host(changes)) == told


@pytest.mark.parametrize(("dry", "pending"), [(False, ["shire01"]), (True, [])])
def test_a_dry_run_opens_no_connection_ahead(monkeypatch: pytest.MonkeyPatch, dry: bool, pending: list[str]) -> None:
    """It may need none: `fab --dry stop` prints the steps even if the host is off."""
    knocked: list[str] = []
    monkeypatch.setattr(runner, "choose", lambda c, changing: ("project", "shire01"))  # noqa: ARG005 - its signature
    monkeypatch.setattr(runner, "start_connecting", lambda c, selection: knocked.append(selection))  # noqa: ARG005 - its signature
    monkeypatch.setattr(runner, "members_of", lambda *_: [])
    asked = executor.Invocation(None, dry, (), None, 10, None, "")
    runner.open_fleet(SimpleNamespace(config={"loop_invocation": asked}), changing="stop", early=True)
    assert knocked == pending


def test_a_host_is_connected_to_once_all_input_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address is asked for before: `ssh -G` contacts no host."""
    chosen = Host("h", "h", None, "deploy", (), None, None, None, None, Place("f", 1, 1, ""))
    context = SimpleNamespace(config={"loop_invocation": executor.Invocation(None, False, (), None, 10, None, "")})
    asked, valid, connected = threading.Event(), threading.Event(), threading.Event()

    def resolve(host: Host, options: Any) -> str:  # noqa: ARG001 - its signature
        asked.set()
        return host.address

    def connect(host: Host, options: Any, endpoint: str) -> str:  # noqa: ARG001 - its signature
        connected.set()
        return endpoint

    monkeypatch.setattr(ssh_config, "resolve", resolve)
    monkeypatch.setattr(ssh_session, "SshSession", connect)
    pending = runner.start_connecting(context, Selection((chosen,), None), valid)
    assert asked.wait(10)
    assert not connected.wait(0.05)
    valid.set()
    assert cast("Any", pending["h"].result(10)) == "h"


@pytest.mark.parametrize("named", [None, "root"])
def test_only_an_account_of_the_command_line_counts_as_named_for_it(named: str | None) -> None:
    """Once: a host with `user:` in hosts.yaml was sent the program for each step, in place of running its copy."""
    options = executor.Invocation(None, False, (), None, 10, None, "")
    chosen = Host("h", "h", None, "deploy", (), None, None, None, None, Place("f", 1, 1, ""))
    project = SimpleNamespace(service_of=lambda _: Service("myapp", "app:app"))
    context = SimpleNamespace(config={"loop_invocation": options})
    (one,) = runner.members_of(context, cast("Any", project), Selection((chosen,), None), named)
    assert one.user == named


def test_verbs_that_go_over_a_fleet_have_the_same_options_and_say_what_each_means() -> None:
    verbs: tuple[Any, ...] = (deploy.deploy, deploy.rollback, deploy.restart)
    deployed, back, again = ({one.name: (one.default, one.help) for one in verb.get_arguments()} for verb in verbs)
    own = {"require_clean", "take_over", "overwrite", "to"}
    assert {name: told for name, told in deployed.items() if name not in own} == again
    assert {name: told for name, told in again.items() if name != "wait"} == {
        name: told for name, told in back.items() if name not in own
    }
    assert {name: default for name, (default, _) in again.items() if name != "json"} == deploy._Flags()._asdict()
