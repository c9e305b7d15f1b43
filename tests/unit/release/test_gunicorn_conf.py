"""What an application's gunicorn.conf.py may say: the rest is refused with its line, before any contact."""

from __future__ import annotations

import pytest

from tasks.engine.config.service import Process, Service
from tasks.engine.release import gunicorn_conf
from tasks.engine.release.lockfile import Lock, LockedRequirement
from tests.support.refusals import refusal
from tests.support.small_service import SERVICE


def described(**fields: object) -> Service:
    return SERVICE._replace(processes=(Process("web")._replace(**fields),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "workers = 3\nthreads = 2\nworker_class = 'gevent'\ntimeout = 5\npreload_app = True\nmax_requests = 100\n",
        "def post_fork(server, worker):\n    bind = reload = 1\n",
        "import multiprocessing as mp\nworkers = mp.cpu_count() * 2 + 1\n",
    ],
)
def test_what_an_application_may_set_is_left_to_it(text: str) -> None:
    gunicorn_conf.check(text.encode(), [described()])


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("bind = 'x'", 1, "bind is not for the application to set: systemd opens the socket"),
        ("import os\n\nif os.name:\n    graceful_timeout = 5", 4, "graceful_timeout"),
        ("workers, daemon = 3, True", 1, "daemon"),
        ("for user in 'ab':\n    pass", 1, "user"),
        ("reload: bool = True", 1, "reload"),
        ("try:\n    pass\nfinally:\n    pidfile = 'x'", 4, "pidfile"),
        ("with open('/x') as chdir:\n    pass", 1, "chdir"),
        ("(wsgi_app := 'x')", 1, "wsgi_app"),
        ("workers = 2\nworkers =", 2, "Python cannot read it"),
        ("x = '\0'", 1, "Python cannot read it"),
        (f"x = {'-' * 50_000}1", 1, "Python cannot read it"),
        (f"x = {'1+' * 20_000}1", 1, "Python cannot read it"),
        (f"x = {'(' * 3000}1{')' * 3000}", 1, "Python cannot read it"),
        (f"x = a{'.b' * 1100}\nbind = 1", 2, "bind is not"),
        ("#" * 1_000_001, 1, "it has more than 1 MB"),
    ],
)
def test_what_would_break_a_slot_is_refused_with_its_line(text: str, line: int, told: str) -> None:
    error = refusal(gunicorn_conf.check, text.encode(), [described()])
    assert error.where == f"service/gunicorn.conf.py:{line}"
    assert told in error.message


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"workers": 4}, "workers = 3"),
        ({"threads": 4}, "threads = 3"),
        ({"worker_class": "gevent"}, "worker_class = 'sync'"),
        ({"threads": 4}, "worker_class = 'gevent'"),
        ({"worker_class": "gevent"}, "threads = 2"),
    ],
)
def test_what_both_files_say_is_refused_and_never_overruled(fields: dict[str, object], text: str) -> None:
    gunicorn_conf.check(text.encode(), [described()])
    error = refusal(gunicorn_conf.check, text.encode(), [described(), described(**fields)])
    assert error.where == "service/gunicorn.conf.py:1"
    assert "in one place" in str(error.next)


def locked(**versions: str) -> Lock:
    return Lock(tuple(LockedRequirement(name, version, None, ()) for name, version in versions.items()))


@pytest.mark.parametrize(
    ("worker_class", "lock", "told"),
    [
        ("gevent", locked(gunicorn="27.0.1"), "the lock has no gevent"),
        ("tornado", locked(gunicorn="27.0.1"), "the lock has no tornado"),
        ("eventlet", locked(gunicorn="25.3.0"), "the lock has no eventlet"),
        ("eventlet", locked(gunicorn="26.0.0", eventlet="0.40.0"), "gunicorn 26.0.0 has no worker class eventlet"),
    ],
)
def test_a_worker_class_that_cannot_run_is_refused_before_contact(worker_class: str, lock: Lock, told: str) -> None:
    """Once: the slot did not start, after everything was sent and built."""
    assert told in refusal(gunicorn_conf.require_worker_class, lock, [described(worker_class=worker_class)]).message


@pytest.mark.parametrize("worker_class", [None, "sync", "gevent", "asgi", "uvicorn_worker.UvicornWorker"])
def test_a_worker_class_that_is_there_is_taken(worker_class: str | None) -> None:
    gunicorn_conf.require_worker_class(
        locked(gunicorn="27.0.1", gevent="25.9.1"), [described(worker_class=worker_class)]
    )
