"""The lock of a run on its host: held while the controller sends bytes, with a line that names the holder."""

from __future__ import annotations

import fcntl
import io
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.engine.host import steps
from tasks.engine.host.protocol import Output, Report
from tasks.engine.parallel import run_in_thread
from templates.host import hold
from templates.host.run import Interrupted, Run
from tests.support.simulated_host import NEW, RUN, SERVICE, SimulatedHost

HOLDER = '{"time":"2026-01-01T00:00:00Z","run":"other","action":"deploy","release":"","who":{"user":"you"}}'


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


@contextmanager
def held(host: SimulatedHost) -> Iterator[None]:
    """Let another run hold the lock for the block."""
    with (host.run_folder / "lock/run").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(f"{HOLDER}\n")
        lock.flush()
        yield


def asking(wait: int) -> steps.HostStep:
    return steps.hold(SERVICE, "deploy", NEW, wait)


def test_who_holds_it_stands_in_it(host: SimulatedHost) -> None:
    assert host.execute(asking(0)) == 0
    told = json.loads((host.run_folder / "lock/run").read_text())
    assert list(told) == ["time", "run", "action", "release", "who"]
    assert (told["run"], told["action"], told["release"], told["who"]) == (RUN.id, "deploy", NEW, {"user": "me"})


def test_where_another_holds_it_that_is_told_at_once(host: SimulatedHost) -> None:
    with held(host):
        assert host.execute(asking(0)) == 75
    assert host.transcript.all("busy") == (HOLDER,)
    assert host.transcript.last("held") is None


def test_who_waits_in_vain_is_told_once(host: SimulatedHost) -> None:
    with held(host):
        assert host.execute(asking(1)) == 75
    assert host.transcript.all("busy") == (HOLDER,)
    assert host.transcript.last("held") is None


def test_who_waits_gets_it_as_soon_as_it_is_free(host: SimulatedHost) -> None:
    busy = threading.Event()

    def hear(item: Report | Output) -> None:
        if isinstance(item, Report) and item.word == "busy":
            busy.set()

    with held(host):
        waiting = run_in_thread(lambda: host._execute(asking(60), hear))
        assert busy.wait(60)
    said = waiting.result(60)
    assert (said.all("busy"), said.last("held")) == ((HOLDER,), RUN.id)


def ended(host: SimulatedHost, run: str, action: str, state: str) -> None:
    """Write the last line of the history."""
    (host.root / "history.jsonl").write_text(json.dumps({"run": run, "action": action, "state": state}) + "\n")


def test_a_run_that_is_over_here_is_given_a_moment_to_let_go(host: SimulatedHost) -> None:
    """Once: of two runs, one after the other, the second was refused: the host had not seen the end of the first."""
    ended(host, "other", "deploy", "done")
    with held(host):
        waiting = threading.Thread(target=host.execute, args=(asking(0),))
        waiting.start()
        time.sleep(0.5)
    waiting.join()
    assert (host.transcript.all("busy"), host.transcript.last("held")) == ((), RUN.id)


@pytest.mark.parametrize(
    ("run", "action", "state"),
    [("another", "deploy", "done"), ("other", "deploy", "started"), ("other", "before_activate", "done")],
)
def test_a_run_that_is_at_work_here_is_not_waited_for(host: SimulatedHost, run: str, action: str, state: str) -> None:
    ended(host, run, action, state)
    began = time.monotonic()
    with held(host):
        assert host.execute(asking(0)) == 75
    assert time.monotonic() - began < hold._ENDING
    assert host.transcript.all("busy") == (HOLDER,)


def test_a_run_that_goes_on_elsewhere_is_told_after_that_moment(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold, "_ENDING", 0.2)
    ended(host, "other", "deploy", "done")
    with held(host):
        assert host.execute(asking(0)) == 75
    assert host.transcript.all("busy") == (HOLDER,)


def test_without_the_lock_file_it_is_said_what_to_do(host: SimulatedHost) -> None:
    (host.run_folder / "lock/run").unlink()
    assert host.execute(asking(0)) == 1
    assert "lock/run, which setup and each boot make: run fab setup" in (host.transcript.last("refused") or "")


def test_it_breaks_once_it_is_taken(host: SimulatedHost) -> None:
    host.failpoint = "hold.taken=fail"
    assert host.execute(asking(0)) == 1
    assert host.transcript.last("refused") == "failpoint hold.taken"


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Run, int]]:
    """A run that reads a pipe, whose reader has read past the step; and the pipe's write end."""
    monkeypatch.setattr(hold, "SILENCE", 0.3)
    monkeypatch.setattr(hold, "_LOOK", 0.05)
    reading, writing = os.pipe()
    os.write(writing, b"step....")
    with os.fdopen(reading, "rb") as payload:
        assert payload.read(4) == b"step"
        yield Run(("n", RUN.id, RUN.who, ""), {}, payload), writing


def seconds(listen: Callable[[], None]) -> float:
    began = time.monotonic()
    listen()
    return time.monotonic() - began


def test_it_ends_after_a_silence(listening: tuple[Run, int]) -> None:
    run, writing = listening
    assert 0.3 <= seconds(lambda: hold._listen(run)) < 30
    os.close(writing)


def test_it_lasts_for_as_long_as_bytes_come(listening: tuple[Run, int]) -> None:
    run, writing = listening

    def beat() -> None:
        for _ in range(10):
            time.sleep(0.1)
            os.write(writing, b".")

    beating = threading.Thread(target=beat)

    def listen() -> None:
        beating.start()
        hold._listen(run)

    assert seconds(listen) >= 1.3
    beating.join()
    os.close(writing)


def test_it_ends_with_the_link(listening: tuple[Run, int], monkeypatch: pytest.MonkeyPatch) -> None:
    run, writing = listening
    monkeypatch.setattr(hold, "SILENCE", 60)
    os.close(writing)
    assert seconds(lambda: hold._listen(run)) < 30


def test_by_hand_there_is_nobody_to_be_heard() -> None:
    hold._listen(Run(("n", RUN.id, RUN.who, ""), {}, io.BytesIO()))


def test_a_signal_ends_it(listening: tuple[Run, int], monkeypatch: pytest.MonkeyPatch) -> None:
    run, writing = listening
    monkeypatch.setattr(hold, "SILENCE", 60)
    former = [signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)]
    run.listen()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted):
            hold._listen(run)
    finally:
        for number, handler in zip((signal.SIGHUP, signal.SIGINT, signal.SIGTERM), former, strict=True):
            signal.signal(number, handler)
        os.close(writing)
