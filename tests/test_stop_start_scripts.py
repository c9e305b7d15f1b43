"""start.sh and stop.sh under the real shells."""

from __future__ import annotations

import json

import pytest

from tasks.engine import layout, scripts
from tasks.engine.scripts import Script
from tests.shell_host import NEW, OLD, SERVICE, ShellHost, at_work, serving, shell_host

__all__ = ["shell_host"]


@pytest.mark.parametrize("script", [scripts.stop(SERVICE, disable=True), scripts.start(SERVICE)])
def test_neither_begins_in_the_middle_of_somebodys_switch(shell_host: ShellHost, script: Script) -> None:
    host = serving(shell_host)
    holder = {"action": "deploy", "release": NEW, "who": {"user": "you"}}
    with at_work(host, holder):
        assert host.execute(script) == 75
    assert json.loads(host.transcript.last("busy") or "") == holder
    assert (host.calls, host.history()) == ([], [])


def test_stop_waits_for_the_queues_and_takes_everything_down_at_once(shell_host: ShellHost) -> None:
    host = serving(shell_host)
    (host.folder / "queues/blue.sock").write_text("2\n0\n")
    assert host.execute(scripts.stop(SERVICE, disable=False)) == 0
    stops = [call for call in host.calls if call.startswith("systemctl stop")]
    assert stops == [
        "systemctl stop " + " ".join(layout.watches(SERVICE)),
        "systemctl stop " + " ".join(layout.stopped(SERVICE)),
    ]
    assert host.calls.count("ss blue.sock") == 2
    assert (host.running(), host.slot("current")) == (set(), "blue")
    assert host.history() == [("stop", OLD, "started"), ("stop", OLD, "done")]
    assert not (host.folder / "refused").exists()


def test_stop_and_disable_keeps_a_boot_from_starting_it(shell_host: ShellHost) -> None:
    host = serving(shell_host)
    assert host.execute(scripts.stop(SERVICE, disable=True)) == 0
    assert host.calls[-1] == "systemctl disable " + " ".join(layout.enabled(SERVICE))


def test_start_brings_back_the_committed_release_and_waits_for_its_check(shell_host: ShellHost) -> None:
    host = serving(shell_host)
    assert host.execute(scripts.stop(SERVICE, disable=True)) == 0
    host.forget()
    assert host.execute(scripts.start(SERVICE)) == 0
    assert (host.serves(), host.running()) == (OLD, {"blue"})
    assert "systemctl enable " + " ".join(layout.enabled(SERVICE)) in host.calls
    assert host.history()[-2:] == [("start", OLD, "started"), ("start", OLD, "done")]
    assert not (host.folder / "refused").exists()


def test_start_without_a_committed_release_is_refused(shell_host: ShellHost) -> None:
    shell_host.release(NEW)
    assert shell_host.execute(scripts.start(SERVICE)) == 1
    assert "no release is committed" in (shell_host.transcript.last("refused") or "")
    assert shell_host.calls == []


def test_a_release_that_does_not_answer_after_start_is_told_with_its_journal(shell_host: ShellHost) -> None:
    host = serving(shell_host)
    (host.folder / "answers" / OLD).write_text("503")
    (host.folder / "journal").write_text("no database\n")
    assert host.execute(scripts.start(SERVICE)) == 1
    assert "answered 503, not 200" in (host.transcript.last("refused") or "")
    assert host.transcript.all("journal") == ("no database",)
    assert host.history()[-1] == ("start", OLD, "failed")
