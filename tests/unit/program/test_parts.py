"""Modules of the host's program: history, locks, the guard's decisions, answers, processes, room."""

from __future__ import annotations

import fcntl
import io
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from templates.host import change_lock, gate, history, locks, probe, units, used
from templates.host import run as running
from templates.host.change_lock import Until
from templates.host.folders import Folder
from templates.host.gate import Processes
from templates.host.locks import Lock
from templates.host.probe import Probe
from templates.host.run import Busy, Interrupted, Run
from templates.host.service import Front, Health, Service

ID, ANOTHER = "b" * 12, "a" * 12
SERVICE = Service(
    "myapp", "/none", 3, 2, Health("/readyz", 200, 5, 60, 2, 1.0), Front("https", "a.example", ""), (), ()
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run on a service with its locks in the test's directory; it reports to no reader."""
    for name in ("activate", "history", "guard", "stage"):
        (tmp_path / "myapp/lock").mkdir(parents=True, exist_ok=True)
        (tmp_path / "myapp/lock" / name).touch()
    monkeypatch.setattr(locks, "RUN", str(tmp_path))
    made = Run(("n", "20260101T000000-abc123", '{"user":"me"}', ""), {"name": "myapp"}, io.BytesIO())
    monkeypatch.setattr(made, "report", lambda *_: made.heed())
    return made


def lines(folder: Path) -> list[dict[str, str]]:
    text = (folder / history.FILE).read_text()
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def test_a_line_of_the_history_is_whole_and_plain(run: Run, tmp_path: Path) -> None:
    (tmp_path / history.FILE).write_text('{"torn')
    with Folder.open(str(tmp_path)) as root:
        history.record(run, root, "deploy", ID, "failed", 'it said "no"\n\x1b[31m' + "x" * 400)
        assert json.loads(history.last(root))["run"] == run.id
    (line,) = lines(tmp_path)[-1:]
    assert (line["action"], line["release"], line["state"]) == ("deploy", ID, "failed")
    assert line["why"].startswith("it said  no    31mxxx")
    assert len(line["why"]) == 300
    assert (tmp_path / history.FILE).read_text().startswith('{"torn\n{"time"')


def test_a_history_that_grows_keeps_its_end_and_the_switches_before(run: Run, tmp_path: Path) -> None:
    switch = '{"action":"deploy","release":"%012x","state":"done"}\n'
    other = '{"action":"stop","release":"%012x","state":"done"}\n'
    (tmp_path / history.FILE).write_text("".join((switch if n % 100 == 0 else other) % n for n in range(25_000)))
    with Folder.open(str(tmp_path)) as root:
        history.record(run, root, "deploy", ID, "started")
        assert (tmp_path / history.FILE).stat().st_size > 1_000_000
        history.record(run, root, "deploy", ID, "done")
    kept = lines(tmp_path)
    assert (tmp_path / history.FILE).stat().st_size < 650_000
    assert (kept[0]["action"], kept[0]["release"]) == ("deploy", "0" * 12)
    assert [line["state"] for line in kept[-2:]] == ["started", "done"]
    assert sum(line["action"] == "deploy" for line in kept) == 250 + 2


def test_whoever_holds_the_lock_of_the_history_does_not_keep_it_from_being_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lock, "wait", lambda *_, **__: False)
    with Folder.open(str(tmp_path)) as root:
        history.record(run, root, "stop", ID, "done")
    assert len(lines(tmp_path)) == 1


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock from another file description."""
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_lock_is_one_at_a_time_and_says_whose(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "myapp/lock/activate"
    path.write_text('{"run": "another"}\n')
    with Lock("myapp", "activate") as lock, held(path):
        assert (lock.take(), lock.held, lock.wait(run, 0)) == (False, True, False)
        told = lock.refusal()
        assert isinstance(told, Busy)
        assert told.text == '{"run": "another"}'
    with Lock("myapp", "activate") as lock:
        assert lock.wait(run, 0)
        lock.write("mine")
        assert lock.read() == "mine"


def test_a_signal_ends_the_wait_for_a_lock(run: Run, tmp_path: Path) -> None:
    run.listen()
    with Lock("myapp", "activate") as lock, held(tmp_path / "myapp/lock/activate"):
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted):
            lock.wait(run, 60)
    for number in running.SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_what_is_no_file_in_the_place_of_a_lock_is_never_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "myapp/lock/activate"
    path.unlink()
    if kind == "link":
        path.symlink_to("history")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    if kind == "fifo":
        # It opens and locks like any file, without waiting for a writer.
        Lock("myapp", "activate").close()
    else:
        with pytest.raises(OSError, match=r"symbolic links|directory"):
            Lock("myapp", "activate")


def test_what_a_guard_is_to_do_is_one_word_and_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_lock, "now", lambda: 1000.0)
    with Folder.open(str(tmp_path)) as folder:
        until = Until(folder)
        assert (until.text, until.time) == ("", 0)
        until.begin("", 30)
        assert (until.text, until.time) == ("103000", 1030.0)
        until.begin("drain")
        assert (until.text, until.time) == ("drain 100000", 0)
        until.write("")
        assert until.text == ""
        until.finish()
        assert until.text == "done"


@pytest.mark.parametrize(
    ("line", "group"),
    [
        ('{"group": 7}', 7),
        ('{"group": 0}', 0),
        ('{"group": "7"}', 0),
        ('{"group": -1}', 0),
        ("", 0),
        ("[]", 0),
        ("{", 0),
    ],
)
def test_the_group_of_a_run_is_a_number_or_nothing(line: str, group: int) -> None:
    assert change_lock._group(line) == group


@pytest.mark.parametrize(
    ("text", "whole", "why"),
    [
        (f'{{"release": "{ID}"}}\n200', True, ""),
        (f'{{"release":"{ID}"}}\n200', True, ""),
        ("plain\n200", True, ""),
        ('{"release": null}\n200', True, ""),
        (f'{{"release": "{ANOTHER}"}}\n200', True, f"answered for another release than {ID}"),
        ("no\nway\n503", True, "answered 503, not 200: no way"),
        ("curl: (7) Could not connect\n000\n000", True, "no answer: curl: (7) Could not connect"),
        ("half\ncurl: (18) transfer closed\n200\n000", True, "no answer: curl: (18) transfer closed"),
        ("x" * 65_536, False, "no answer: the answer is longer than 64 kB"),
        ("\n12x", True, "no answer: the answer is longer than 64 kB"),
        ("", True, "no answer: the answer is longer than 64 kB"),
    ],
)
def test_an_answer_is_what_was_asked_for_or_says_what_is_wrong(text: str, whole: bool, why: str) -> None:
    assert Probe(SERVICE, ID).check(text, whole).why == why


def test_a_release_is_held_to_its_own_health_check(tmp_path: Path) -> None:
    (tmp_path / "releases" / ID).mkdir(parents=True)
    (tmp_path / "releases" / ID / "health").write_text("/healthz\n204\n")
    found = Probe(SERVICE._replace(root=str(tmp_path)), ID)
    assert (found.path, found.status) == ("/healthz", 204)
    assert (Probe(SERVICE, ID).path, Probe(SERVICE, ID).status) == ("/readyz", 200)


def processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, recycles: bool = False) -> Processes:
    (tmp_path / "101/task/101").mkdir(parents=True)
    (tmp_path / "101/task/101/children").write_text("201 202 ")
    shown = {"MainPID": "101", "NRestarts": "0", "ActiveState": "active", "Result": "success"}
    monkeypatch.setattr(gate, "PROC", str(tmp_path))
    monkeypatch.setattr(units, "show", lambda *_: shown)
    made = Processes("myapp@blue.service", recycles=recycles)
    assert made.ask_systemd()
    assert made.same
    return made


@pytest.mark.parametrize(
    ("children", "recycles", "same"),
    [("201 202 203", False, True), ("201 203", False, False), ("201 203", True, True), ("", True, True)],
)
def test_a_worker_that_is_gone_is_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, children: str, recycles: bool, same: bool
) -> None:
    seen = processes(monkeypatch, tmp_path, recycles=recycles)
    (tmp_path / "101/task/101/children").write_text(children)
    seen.update()
    assert (seen.same, seen.same_main) == (same, True)


def test_another_main_process_is_seen_however_workers_come_and_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = processes(monkeypatch, tmp_path, recycles=True)
    monkeypatch.setattr(units, "show", lambda *_: {"MainPID": "102", "NRestarts": "1", "ActiveState": "active"})
    assert seen.ask_systemd()
    assert not seen.same_main
    assert not seen.same


def test_the_newest_releases_come_first_and_nothing_else_is_one(tmp_path: Path) -> None:
    for age, name in enumerate([ANOTHER, ID, "no-release", ".part-old-" + ID]):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (age, age))
    (tmp_path / ("c" * 12)).touch()
    with Folder.open(str(tmp_path)) as releases:
        assert used.by_age(releases) == [ID, ANOTHER]
        assert not used.in_use(releases, ID, "nobody")
        descriptor = os.open(tmp_path / ID, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        assert used.in_use(releases, ID, "nobody")
        os.close(descriptor)


def test_curl_says_all_up_to_a_limit(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("x" * 100_000)
    text, whole = probe.run_curl(5, "-s", f"file://{tmp_path}/page")
    assert (len(text), whole) == (65_536, False)
    text, whole = probe.run_curl(5, "-s", "-S", "http://127.0.0.1:1/")
    assert text.endswith("\n000")
    assert whole
