"""Names reported by a host: only one that is valid, and that the run expects, is used."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks.engine.config.sections import Hooks
from tasks.engine.config.service import Service
from tasks.engine.deploy.prepared import Prepared
from tasks.engine.deploy.rollout import Rollout
from tasks.engine.deploy.waves import Policy
from tasks.engine.errors import LoopError
from tasks.engine.fleet.member import Member
from tasks.engine.host import reported_names
from tasks.engine.host.protocol import Report, Transcript
from tasks.engine.host.steps import Activation, HostStep
from tasks.engine.parallel import Stop

OLD, TRIAL, NEW = "a" * 12, "b" * 12, "c" * 12
HOSTILE = ["$(reboot)", "../../etc", "A" * 12, "a b", "x" * 41, f"{OLD}\ufffd", "-rf", "--help"]


class Host(Member):
    """A member whose host reports the same lines for every step."""

    def __init__(self, service: Service, said: dict[str, str]) -> None:
        host = SimpleNamespace(name="shire01", groups=())
        super().__init__(cast(Any, host), service, cast(Any, SimpleNamespace(failpoint="")), cast(Any, None))
        self.told, self.asked = said, list[HostStep]()

    def perform(self, step: HostStep, *_: object, **__: object) -> Transcript:
        self.asked.append(step)
        transcript = Transcript()
        for word, rest in self.told.items():
            transcript.add(Report(word, rest))
        return transcript

    def connect(self) -> Any:
        return SimpleNamespace(endpoint=SimpleNamespace(hostname="192.0.2.1"))


def activated(said: dict[str, str], service: Service, before: str | None = OLD, trial: str | None = None) -> Rollout:
    """Return a run that has activated one host, with these reports."""
    member = Host(service, said)
    run = Rollout("deploy", [member], Policy(), Stop(), lambda _: "fab deploy")
    activation = Activation("deploy", NEW, before, on_probation=trial)
    run.hosts["shire01"] = Prepared(member, activation, warning="")
    run._activate(member, lambda _: None)
    return run


@pytest.mark.parametrize("word", ["before", "served"])
@pytest.mark.parametrize("lie", HOSTILE)
def test_a_lie_about_what_was_there_is_the_hosts_error(word: str, lie: str) -> None:
    with pytest.raises(LoopError, match="which is impossible") as caught:
        activated({"before": OLD, "served": OLD, word: lie}, Service("myapp", "app:app"))
    assert caught.value.code == "lies"
    assert caught.value.exit_status == 1


@pytest.mark.parametrize(("before", "trial"), [(OLD, None), (OLD, TRIAL), (None, None)])
def test_what_was_committed_before_is_one_of_those_that_the_run_expected(before: str | None, trial: str | None) -> None:
    service = Service("myapp", "app:app")
    for told in {before or "", trial or before or ""}:
        run = activated({"before": told, "served": told}, service, before, trial)
        assert [one.activation.before for one in run.hosts.values()] == [told or None]
    others = {OLD, TRIAL, "d" * 12, ""} - {before or "", trial or before or ""}
    for told in others:
        with pytest.raises(LoopError, match="the release before"):
            activated({"before": told}, service, before, trial)


def test_no_lie_of_a_host_reaches_a_command_of_the_operator(tmp_path: Path) -> None:
    """Neither in the environment of a hook, nor as the release that an undo returns to."""
    log = tmp_path / "log"
    hook = tmp_path / "hook"
    hook.write_text(f'#!/bin/sh\nprintf "%s %s\\n" "$RELEASE" "$BEFORE" >>{log}\n')
    hook.chmod(0o755)
    service = Service("myapp", "app:app", hooks=Hooks(drain=str(hook), undrain=str(hook)))
    for lie in (*HOSTILE, "d" * 12):
        with pytest.raises(LoopError):
            activated({"before": lie, "served": OLD}, service)
    run = activated({"before": OLD, "served": OLD}, service)
    list(run._undo())
    assert set(log.read_text().splitlines()) == {f"{NEW} {OLD}", f"{OLD} {NEW}"}


@pytest.mark.parametrize("text", [OLD, "0", "abc", "r1"])
def test_an_id_is_taken_as_it_is(text: str) -> None:
    assert reported_names.release("a release", text) == text
    assert reported_names.release("a release", text, (text, NEW)) == text


def test_nothing_said_is_none() -> None:
    assert reported_names.release("a release", None, (OLD,)) is None
    assert reported_names.release("a release", "") is None
