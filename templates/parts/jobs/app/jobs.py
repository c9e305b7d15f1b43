"""Jobs by huey, run by processes of their own: soon, later, or at times (UTC). queues.py sees that none is lost.

@jobs.job(retries=5, retry_delay=10, retry_backoff=3)      # the default: again after 10, 30, 90, 270, 810 seconds
def export(year: int) -> None: ...                         # a job gets what JSON can say, and may run twice

export(2026)                                               # a worker runs it soon
export.schedule((2026,), delay=60)                         # or in a minute

@jobs.periodic(crontab(hour="3", minute="0"))              # huey's crontab
def tidy() -> None: ...
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import click
from flask import Flask, current_app
from flask.cli import AppGroup
from huey.consumer import Scheduler  # type: ignore[import-untyped]
from huey.exceptions import HueyException  # type: ignore[import-untyped]

from . import queues, settings

Decorator = Callable[..., Callable[[Callable[..., Any]], Any]]

log = logging.getLogger("jobs")
commands = AppGroup("jobs", help="Run jobs; list those that failed, and run them again.")
ids = click.argument("names", metavar="ID...", nargs=-1, required=True)

huey = queues.Jobs()
RETRIES = {"retries": 5, "retry_delay": 10, "retry_backoff": 3}
job: Decorator = partial(huey.task, **RETRIES)  # makes a function a job: a call enqueues it
periodic: Decorator = partial(huey.periodic_task, **RETRIES)  # one that runs at times, once for all workers

Scheduler.periodic_task_seconds = 5  # not 60, which may miss a minute


def init_app(app: Flask) -> None:
    """Find the queue, and add `flask jobs`."""
    app.config["JOBS_SILENCE"] = settings.number("JOBS_SILENCE", 30, 1, 3600)  # seconds until a worker counts as dead
    huey.app, (huey.storage, huey.under_way) = app, _storages(app)
    app.cli.add_command(commands)


def _storages(app: Flask) -> list[Any]:
    url, ends = settings.text("JOBS_URL", ""), ("", queues.UNDER_WAY)
    if not url:
        file = f"{app.config['STATE_DIRECTORY']}/jobs.sqlite"
        return [queues.Sqlite(f"jobs{end}", file, timeout=app.config["REQUEST_TIMEOUT"] / 2) for end in ends]
    try:
        return [queues.Redis(f"{app.config['SERVICE']}{end}", url=url, clean_name=False) for end in ends]
    except ValueError:  # its text may hold a password
        raise settings.SettingError("JOBS_URL must be redis://..., rediss://... or unix://...") from None


@commands.command()
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True, help="Jobs at once.")
def work(threads: int) -> None:
    """Run jobs until SIGTERM, and then end those that run."""
    pause, answers = current_app.config["JOBS_SILENCE"] / queues.LOOKS, threading.Event()
    threading.Thread(target=_look, args=(pause, answers), daemon=True).start()
    answers.wait()
    huey.create_consumer(workers=threads, max_delay=1, graceful_signal="TERM").run()


def _look(pause: float, answers: threading.Event) -> None:
    """Look after the jobs under way as long as this process lives: SIGTERM ends its threads only after their jobs."""
    while True:
        try:
            huey.look()
            answers.set()
        except Exception:
            log.exception("the queue of jobs does not answer")
        time.sleep(pause)


@commands.command()
def status() -> None:
    """Print how many jobs there are, as JSON: whether the queue answers is the health of a worker."""
    try:
        counts = {"queued": huey.pending_count(), "scheduled": huey.scheduled_count()}
        counts.update(under_way=huey.under_way.result_store_size(), dead=len(huey.dead()))
    except Exception as error:
        raise click.ClickException(f"the queue of jobs does not answer: {error}") from None
    click.echo(json.dumps(counts))


@commands.command("dead")
def show() -> None:
    """Print the jobs that have failed for good: id, time, name, arguments, error."""
    for name, kept in sorted(huey.dead().items(), key=lambda item: str(item[1]["at"])):
        values = json.dumps([kept["args"], kept["kwargs"]])
        click.echo(f"{name} {kept['at']} {kept['name']} {values} {json.dumps(kept['error'])}")


@commands.command()
@ids
def retry(names: tuple[str, ...]) -> None:
    """Run failed jobs again."""
    _each(huey.retry, names)


@commands.command()
@ids
def drop(names: tuple[str, ...]) -> None:
    """Forget failed jobs."""
    _each(lambda name: huey.delete(queues.DEAD + name), names)


def _each(act: Callable[[str], Any], names: tuple[str, ...]) -> None:
    for name in names:
        try:
            if not act(name):
                raise click.ClickException(f"there is no failed job {name}: `flask jobs dead` shows them")
        except HueyException as error:
            raise click.ClickException(f"this release cannot run {name}: {error}") from None
