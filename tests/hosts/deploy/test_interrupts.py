"""A signal during a run: hosts under way are finished, no other is begun, and queries end at once."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.promises.words import WHOLE
from tests.support.clone import Clone
from tests.support.fleet import Fleet, deployed
from tests.support.hosts import MakeHosts
from tests.support.stand_ins import entries, mute, write_inventory


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return deployed(module_hosts, tmp_path_factory.mktemp("interrupts"), 2)


def interrupted(clone: Clone, number: signal.Signals, until: str, *words: str) -> tuple[int, str]:
    """Signal `fab WORDS` once it has printed `until`; return its status and output."""
    with clone.start(*words) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        shown = ""
        while until not in shown:
            line = process.stdout.readline()
            assert line, f"{until!r} did not come:\n{shown}{process.stderr.read()}"
            shown += line
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    return process.returncode, shown + out + err


@pytest.mark.promise(WHOLE, "SIGINT, SIGTERM or SIGHUP while activating", part=1)
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["INT", "TERM", "HUP"],
)
def test_a_signal_lets_the_host_under_way_finish_and_begins_no_other(
    fleet: Fleet, number: signal.Signals, status: int
) -> None:
    _, kept = fleet.answering
    new = fleet.edit()
    ended, said = interrupted(fleet.clone, number, "shire01  activate  start", "deploy", "-H", "all")
    assert ended == status, said
    assert "hosts under way are finished, no other is begun" in said
    assert "shire01  DEPLOYED" in said
    assert "2 hosts: 1 deployed, 1 not begun (shire02)" in said
    assert "shire02  activate" not in said
    assert "Traceback" not in said
    assert fleet.answering == [new, kept]
    assert fleet.history("shire01")[-1]["state"] == "done"


@pytest.mark.promise(WHOLE, "SIGINT while staging")
def test_a_signal_while_staging_begins_no_activation(fleet: Fleet) -> None:
    before = fleet.answering
    fleet.edit()
    ended, said = interrupted(fleet.clone, signal.SIGINT, "plan      connect", "deploy", "-H", "all")
    assert ended == 130, said
    assert "activate" not in said
    assert "2 not begun (shire01, shire02)" in said
    assert fleet.answering == before


@pytest.mark.promise(WHOLE, "a second signal cuts an activation")
def test_the_second_signal_cuts_and_the_host_undoes_what_it_had_begun(fleet: Fleet) -> None:
    before = fleet.answering
    fleet.edit()
    # A release that never gets ready takes as long as its health check may.
    fleet.clone.replace("service/service.yaml", "path: /readyz", "path: /nowhere")
    fleet.clone.replace("service/service.yaml", "timeout: 30 ", "timeout: 6 ")
    try:
        with fleet.clone.start("deploy", "-H", "shire01") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            while "activate  check" not in process.stdout.readline():
                pass
            process.send_signal(signal.SIGTERM)
            while "again to exit at once" not in process.stderr.readline():
                pass
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 143
    finally:
        fleet.clone.replace("service/service.yaml", "timeout: 6 ", "timeout: 30 ")
        fleet.clone.replace("service/service.yaml", "path: /nowhere", "path: /readyz")
    # The host notices a dead controller at its next line; until then the lock of the activation is held.
    fleet.sh(0, "flock -w 40 /run/myapp/lock/activate true")
    assert fleet.answering == before
    assert fleet.history("shire01")[-1]["state"] == "failed"
    fleet.clone.done("deploy", "-H", "shire01")


@pytest.mark.parametrize("verb", ["status", "exec", "logs"])
def test_what_only_asks_ends_at_once(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    with mute() as host:
        hosts = {**entries(fleet.hosts.inventory), "mute": host.entry()}
        monkeypatch.setattr(fleet.clone, "inventory", write_inventory(tmp_path / "hosts.yaml", hosts))
        words = {"status": ["status"], "exec": ["exec", "-H", "mute", "--", "true"], "logs": ["logs", "-f"]}[verb]
        with fleet.clone.start("-t", "60", *words) as process:
            assert process.stderr is not None
            deadline = time.monotonic() + 30
            while not host.called and time.monotonic() < deadline:
                time.sleep(0.05)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
            assert "Traceback" not in process.stderr.read()
        assert time.monotonic() - began < 50
