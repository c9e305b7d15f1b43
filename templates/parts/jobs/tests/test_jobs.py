"""Run as they are, these try the queue in SQLite; with JOBS_TEST_URL, the URL of a Redis, the queue there."""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from huey import CancelExecution, crontab  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given
from hypothesis import settings as tries
from hypothesis import strategies as st

from service.app import create_app, jobs, logs, queues

ROOT = Path(__file__).parents[2]

ran: list[Any] = []
errors: list[BaseException] = []
periodic = False


@jobs.job()
def note(value: object) -> object:
    ran.append(value)
    if errors:
        raise errors.pop()
    return value


@jobs.job(retries=0)
def once(value: object) -> None:
    note.call_local(value)


@jobs.job()
def say(text: str) -> None:
    logging.getLogger("say").info(text)


@jobs.periodic(lambda moment: periodic and crontab(minute="*/5")(moment), retries=0)
def tidy() -> None:
    note.call_local("tidy")


@pytest.fixture(autouse=True)
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test a queue of its own."""
    ran.clear()
    errors.clear()
    name = f"test-{uuid.uuid4().hex}"
    monkeypatch.delenv("JOBS_URL", raising=False)
    if url := os.environ.get("JOBS_TEST_URL"):
        monkeypatch.setenv("JOBS_URL", url)
        monkeypatch.setenv("SERVICE", name)
    monkeypatch.setenv("JOBS_SILENCE", "1")
    yield
    if url:
        connection = queues.Redis(name, url=url).conn
        for key in connection.scan_iter(f"*{name}*"):
            connection.delete(key)
        connection.connection_pool.disconnect()
    for storage in (jobs.huey.storage, jobs.huey.under_way):
        storage.pool.disconnect() if isinstance(storage, queues.Redis) else storage.close()
    as_new()


def as_new() -> None:
    """Forget what this process has in hand and has seen, as if it had just begun."""
    jobs.huey._running.clear()
    jobs.huey._seen.clear()


def flask(app: Flask, *words: str) -> tuple[int, str]:
    ended = app.test_cli_runner().invoke(args=["jobs", *words])
    return ended.exit_code, ended.output


def counts(app: Flask) -> list[int]:
    """Return how many jobs are queued, scheduled, under way and dead."""
    return list(json.loads(flask(app, "status")[1]).values())


def work(after: float = 0) -> None:
    """Run what is due after so many seconds, as a worker does."""
    now = jobs.huey._get_timestamp() + timedelta(seconds=after)
    jobs.huey.read_schedule(now)
    while jobs.huey.storage.queue_size():
        if task := jobs.huey.dequeue():
            jobs.huey.execute(task, now)


def dead() -> dict[str, str]:
    """Return the errors of the dead letters, by the names of their jobs."""
    return {kept["name"].rpartition(".")[2]: kept["error"] for kept in jobs.huey.dead().values()}


def look(times: int = queues.LOOKS + 1) -> None:
    """Look, as a worker does all the time; by default until a worker that is silent counts as dead."""
    for _ in range(times):
        jobs.huey.look()


def test_a_job_runs_once_and_leaves_nothing(app: Flask) -> None:
    note({"year": 2026, "list": [1, "ż"]})
    assert counts(app) == [1, 0, 0, 0]
    work()
    assert ran == [{"year": 2026, "list": [1, "ż"]}]
    assert counts(app) == [0, 0, 0, 0]


@pytest.mark.usefixtures("app")
def test_what_json_cannot_say_is_refused_where_it_is_asked_for() -> None:
    with pytest.raises(TypeError):
        note(object())
    assert jobs.huey.pending_count() == 0


@pytest.mark.usefixtures("app")
def test_a_job_can_wait_follow_another_and_have_a_time() -> None:
    note.schedule((1,), delay=60)
    work(59)
    assert ran == []
    work(61)
    assert ran == [1]
    jobs.huey.enqueue(once.s({"time": 1}).then(note, 2).then(note))
    work()
    assert ran == [1, {"time": 1}, 2, 2]
    once.schedule((datetime(2026, 1, 31).isoformat(),), eta=datetime(2026, 1, 31), expires=datetime(2026, 2, 28))
    work()
    assert ran[4:] == []
    assert dead() == {}


def test_a_job_is_tried_again_later_and_later_and_then_kept(app: Flask) -> None:
    note(7)
    for number, delay in enumerate((0, 10, 30, 90, 270, 810)):
        errors.append(ValueError(f"try {number}"))
        work(delay - 1)
        assert len(ran) == number + (number == 0)
        work(delay + 1)
        assert len(ran) == number + 1
    assert (dead(), counts(app)) == ({"note": "ValueError('try 5')"}, [0, 0, 0, 1])
    status, shown = flask(app, "dead")
    assert status == 0
    assert ".note [[7], {}] \"ValueError('try 5')\"" in shown
    name = shown.split()[0]
    assert flask(app, "retry", name) == (0, "")
    errors.append(ValueError("again"))
    work()
    assert counts(app) == [0, 1, 0, 0]
    work(12)
    assert (len(ran), counts(app)) == (8, [0, 0, 0, 0])
    assert flask(app, "retry", name)[0] == flask(app, "drop", name)[0] == 1


def test_a_dead_letter_can_be_dropped(app: Flask) -> None:
    once(7)
    errors.append(ValueError())
    work()
    (name,) = jobs.huey.dead()
    assert flask(app, "drop", name) == (0, "")
    assert counts(app) == [0, 0, 0, 0]


def test_a_job_that_gives_up_on_purpose_is_no_dead_letter(app: Flask) -> None:
    once(7)
    errors.append(CancelExecution())
    work()
    assert (ran, counts(app)) == ([7], [0, 0, 0, 0])


def test_a_job_that_was_taken_and_never_begun_is_put_back(app: Flask) -> None:
    note(7)
    assert jobs.huey.storage.dequeue()
    assert counts(app) == [0, 0, 1, 0]
    look(queues.LOOKS)
    assert counts(app) == [0, 0, 1, 0]  # it may begin right now
    look(1)
    assert counts(app) == [0, 1, 0, 0]
    work(2)
    assert (ran, counts(app)) == ([7], [0, 0, 0, 0])


def test_a_job_at_work_is_not_put_back(app: Flask) -> None:
    note(7)
    task = jobs.huey.dequeue()
    look()
    assert counts(app) == [0, 0, 1, 0]
    jobs.huey.execute(task)
    look()
    assert (ran, counts(app)) == ([7], [0, 0, 0, 0])


def test_a_job_that_ends_while_it_is_marked_is_at_its_end(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    note(7)
    task = jobs.huey.dequeue()
    ending = threading.Thread(target=jobs.huey.execute, args=(task,))
    mark = jobs.huey.under_way.put_data

    def put_data(*words: Any) -> None:
        ending.start()
        ending.join(0.3)
        mark(*words)

    with monkeypatch.context() as context:
        context.setattr(jobs.huey.under_way, "put_data", put_data)
        look(1)
    ending.join()
    assert (ran, counts(app)) == ([7], [0, 0, 0, 0])


def test_only_the_jobs_of_a_silent_worker_are_taken_over(app: Flask) -> None:
    note(7)
    data = jobs.huey.storage.dequeue()
    for _ in range(3):
        look(queues.LOOKS)
        jobs.huey.under_way.put_data(data, uuid.uuid4().bytes)  # another worker says that it lives
    look(queues.LOOKS)
    assert counts(app) == [0, 0, 1, 0]
    look(1)
    assert counts(app) == [0, 1, 0, 0]


def test_a_job_that_ends_its_thread_runs_again(app: Flask) -> None:
    errors.append(SystemExit(0))
    note(7)
    with suppress(SystemExit):
        work()
    assert counts(app) == [0, 0, 1, 0]
    look()
    work(2)
    assert ran == [7, 7]


def test_a_job_whose_end_cannot_be_kept_is_not_lost(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise BlockingIOError

    errors.append(ValueError())
    once(7)
    with monkeypatch.context() as context:
        context.setattr(jobs.huey.storage, "put_data", full)
        with pytest.raises(BlockingIOError):
            work()
    look()
    work(2)
    assert (ran, counts(app)) == ([7, 7], [0, 0, 0, 0])


def test_a_job_that_kills_its_workers_ends_among_the_dead(app: Flask) -> None:
    note(7)
    for number in range(queues.LOST + 1):
        jobs.huey.read_schedule(jobs.huey._get_timestamp() + timedelta(seconds=2**number))
        assert jobs.huey.storage.dequeue()
        look()
    assert (dead(), counts(app)) == ({"note": "the worker that ran it died"}, [0, 0, 0, 1])
    (name,) = jobs.huey.dead()
    assert flask(app, "retry", name) == (0, "")
    work()
    assert ran == [7]


def test_a_job_of_another_release_waits_for_a_release_that_knows_it(app: Flask) -> None:
    note(7)
    jobs.huey._registry.unregister(note.task_class)
    try:
        work()
        assert counts(app) == [0, 1, 0, 0]
        for _ in range(queues.LOST):
            work(2**queues.LOST)
        (name,) = jobs.huey.dead()
        assert "this release cannot read it" in dead()["note"]
        status, said = flask(app, "retry", name)
        assert (status, "this release cannot run" in said) == (1, True)
    finally:
        jobs.huey._registry.register(note.task_class)
    assert flask(app, "retry", name) == (0, "")
    work()
    assert (ran, counts(app)) == ([7], [0, 0, 0, 0])


@pytest.mark.parametrize("data", [b"\xff", b"[]", b'{"job": 7}', b'{"job": [], "lost": 0}', b'{"lost": "x", "job": 1}'])
def test_what_is_no_job_hinders_no_other(app: Flask, data: bytes) -> None:
    jobs.huey.storage.enqueue(data)
    note(7)
    work()
    assert (ran, counts(app)) == ([7], [0, 0, 0, 1])
    assert flask(app, "dead")[0] == 0


def test_a_periodic_job_runs_once_at_each_time_however_many_workers_there_are(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "periodic", True)
    start = datetime(2026, 1, 31, 12, 0)
    for second in range(0, 601, 7):
        for _worker in range(3):
            assert jobs.huey.read_periodic(start + timedelta(seconds=second)) == []
    work()
    assert ran == ["tidy"] * 2
    errors.extend([ValueError("first"), ValueError("last")])
    for minute in (15, 20):
        jobs.huey.read_periodic(start + timedelta(minutes=minute))
        work()
    assert (dead(), counts(app)) == ({"tidy": "ValueError('first')"}, [0, 0, 0, 1])  # `errors` is a stack
    (name,) = jobs.huey.dead()
    assert name.endswith(".tidy")


def test_the_request_is_named_in_the_log_of_its_job(app: Flask, lines: Callable[[], list[dict[str, Any]]]) -> None:
    token = logs.request_id.set("0123456789")
    say("early")
    logs.request_id.reset(token)
    say("late")
    work()
    said = {line["message"]: line.get("request_id") for line in lines() if line["logger"] == "say"}
    assert said == {"early": "0123456789", "late": None}
    assert app.name


STEPS = st.lists(st.sampled_from(["ask", "later", "take", "run", "die", "look", "due"]), max_size=25)


@tries(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_happens_when_no_job_is_lost(app: Flask, steps: list[str]) -> None:
    """A worker dies anywhere: what it had in hand is gone, what is in the storage is not."""
    ran.clear()
    asked = 0
    hand: list[Any] = []
    for step in [*steps, "die"]:
        if step in ("ask", "later"):
            note.schedule((asked,), delay=1 if step == "later" else -1)
            asked += 1
        elif step == "take" and jobs.huey.storage.queue_size():
            hand += filter(None, [jobs.huey.dequeue()])
        elif step == "run" and hand:
            jobs.huey.execute(hand.pop())
        elif step == "die":
            hand.clear()
            as_new()
        elif step == "look":
            look(1)
        elif step == "due":
            jobs.huey.read_schedule(jobs.huey._get_timestamp() + timedelta(hours=1))
    for _ in range(2):
        look()
        work(3600)
    assert set(ran) == set(range(asked))
    assert counts(app) == [0, 0, 0, 0]


RUNNER = """
import os, time
from pathlib import Path
from service.app import create_app, jobs

state = Path(os.environ["STATE_DIRECTORY"])

@jobs.job()
def export(number, seconds=0):
    again = f"{number}\\n" in Path(state / "begun").read_text() if (state / "begun").exists() else False
    with (state / "begun").open("a") as file:
        print(number, file=file)
    time.sleep(0 if again else seconds)
    with (state / "done").open("a") as file:
        print(number, file=file)

app = create_app()
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An application with a job that says when it begins and ends. `seconds`: what it takes the first time."""
    (tmp_path / "runner.py").write_text(RUNNER)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("runner")
    yield module
    module.export.unregister()
    del sys.modules["runner"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a worker of that application."""
    started: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
        argv = [sys.executable, "-m", "flask", "--app", "runner", "jobs", "work", "--threads", "2"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        started.append(subprocess.Popen(argv, env=environment, cwd=tmp_path, text=True, **pipes))  # type: ignore[call-overload]
        return started[-1]

    yield begin
    for one in started:
        one.kill()
        one.communicate()


def noted(state: Path, name: str, count: int) -> list[str]:
    """Return the sorted lines of a file, once it has so many."""
    lines: list[str] = []
    for _ in range(600):
        if len(lines) >= count:
            return sorted(lines)
        time.sleep(0.05)
        with suppress(FileNotFoundError):
            lines = (state / name).read_text().split()
    raise AssertionError(f"{name} has {lines}, not {count} lines")


def test_a_worker_that_is_killed_in_mid_job_loses_nothing(runner: Any, start: Start, state: Path) -> None:
    for number in range(4):
        runner.export(number, 60 if number < 2 else 0)
    first = start()
    assert noted(state, "begun", 2) == ["0", "1"]
    first.kill()
    first.wait()
    assert counts(runner.app) == [2, 0, 2, 0]
    start()
    assert noted(state, "done", 4) == ["0", "1", "2", "3"]
    assert noted(state, "begun", 6) == ["0", "0", "1", "1", "2", "3"]


def test_a_worker_that_is_asked_to_stop_ends_its_jobs_and_goes_on_to_say_that_it_lives(
    runner: Any, start: Start, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBS_SILENCE", "3")
    for number in range(3):
        runner.export(number, 5)
    worker = start()
    noted(state, "begun", 2)
    worker.send_signal(signal.SIGTERM)
    while worker.poll() is None:
        look(1)
        time.sleep(0.5)
    assert worker.returncode == 0
    assert noted(state, "done", 2) == noted(state, "begun", 2) == ["0", "1"]
    assert counts(runner.app) == [1, 0, 0, 0]


def test_a_worker_waits_for_its_queue_and_is_not_well_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [ConnectionError(), ConnectionError(), None]
    began: list[object] = []

    def look() -> None:
        if not answers:
            raise SystemExit
        assert not began
        if error := answers.pop(0):
            raise error

    class Thread:
        def __init__(self, target: Callable[..., None], args: tuple[object, ...], daemon: bool) -> None:
            assert daemon
            self.target, self.args = target, args

        def start(self) -> None:
            with pytest.raises(SystemExit):
                self.target(*self.args)

    class Worker:
        def __init__(self, **options: object) -> None:
            began.append(options["workers"])

        def run(self) -> None:
            assert answers == []

    monkeypatch.setenv("JOBS_URL", "unix://:s3cret@/nowhere/redis.sock")
    app = create_app()
    monkeypatch.setattr(jobs.huey, "look", look)
    monkeypatch.setattr(jobs.threading, "Thread", Thread)
    monkeypatch.setattr(jobs.huey, "create_consumer", Worker)
    assert flask(app, "work", "--threads", "3")[0] == 0
    assert began == [3]
    status, said = flask(app, "status")
    assert (status, "the queue of jobs does not answer" in said, "s3cret" in said) == (1, True, False)


@pytest.mark.parametrize(
    "url", ["s3cret", "http://me:s3cret@redis", "redis://me:s3cret@host:port", "redis://:s3cret@["]
)
def test_another_url_stops_the_start_with_a_line_that_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], url: str
) -> None:
    monkeypatch.setenv("JOBS_URL", url)
    with pytest.raises(SystemExit):
        create_app()
    said = capfd.readouterr().out
    assert "JOBS_URL" in said
    assert "s3cret" not in said
