"""A run whose controller has gone: the next run waits for it, and ends it if it hangs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tasks.engine.host import steps
from tasks.engine.host.steps import Activation
from tests.support.simulated_host import NEW, OLD, SERVICE, SimulatedHost, host

__all__ = ["host"]

DEPLOY = steps.activate(SERVICE._replace(drain=0), Activation("deploy", NEW, OLD))
HOLDS = "exec 9>>activate; flock 9; {trap} printf '%s\n' '{record}' >activate; sleep {seconds} & echo; wait"


@contextmanager
def holder(
    host: SimulatedHost, seconds: float, trap: str = "", group: bool = True
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process with a child, in a group of their own; both hold the lock of the activation."""
    record = json.dumps({"action": "deploy", "release": OLD, "who": {}, "group": 0}).replace(" ", "")
    text = HOLDS.format(trap=trap, seconds=seconds, record=record)
    text = text.replace('"group":0', '"group":\'"$$"\'') if group else text
    command = ["sh", "-c", text]
    with subprocess.Popen(
        command, cwd=host.run_folder / "lock", stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for pid in (process.pid, *children(process.pid)):
            (host.folder / f"proc/{pid}").symlink_to(f"/proc/{pid}")
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def test_it_gets_time_to_come_to_its_end(host: SimulatedHost) -> None:
    with holder(host, seconds=60) as process:
        (sleeping,) = children(process.pid)
        assert host.execute(DEPLOY, at="wait", do=lambda: os.kill(sleeping, signal.SIGTERM)) == 0, host.transcript
        assert process.wait() == 0
    assert (host.serves(), host.running()) == (NEW, {"green"})
    assert "wait an abandoned run comes to its end" in host.transcript.all("step")


def test_what_hangs_is_ended_even_if_it_is_deaf(host: SimulatedHost) -> None:
    """Once: a run that hung held its host for ever once its controller was gone: each next run had to wait."""
    (host.folder / "patience").write_text("1")
    with holder(host, seconds=600, trap="trap '' TERM;") as process:
        assert host.execute(DEPLOY) == 0, host.transcript
        # If its child is killed first, it ends by itself.
        assert process.wait() in {-signal.SIGKILL, 0}
    assert (host.serves(), host.running()) == (NEW, {"green"})


def test_who_is_of_no_run_is_left_alone_and_named(host: SimulatedHost) -> None:
    with holder(host, seconds=600, group=False) as process:
        assert host.execute(DEPLOY) == 75
        assert process.poll() is None
    assert json.loads(host.transcript.last("busy") or "")["release"] == OLD


@pytest.mark.parametrize("verb", ["start", "stop"])
def test_a_verb_without_a_run_is_named_and_ended_by_nobody(host: SimulatedHost, verb: str) -> None:
    """Once: a run that met a stop or a start at work reported the deploy before it."""
    step = steps.start(SERVICE) if verb == "start" else steps.stop(SERVICE, disable=False)
    assert host.execute(step) == 0
    told = json.loads((host.run_folder / "lock/activate").read_text())
    assert (told["action"], told["release"], told["group"]) == (verb, OLD, 0)
