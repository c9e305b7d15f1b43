"""Jobs by huey, run by processes of their own: soon, later, or at times (UTC). delivery.py sees that none is lost.

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
from typing import Any

import click
from flask import Flask, current_app
from flask.cli import AppGroup
from huey.consumer import Consumer, Scheduler  # type: ignore[import-untyped]

from . import settings
from .delivery import DEAD, Jobs
from .queues import Redis, Sqlite

RETRIES = {"retries": 5, "retry_delay": 10, "retry_backoff": 3}
BEATS = 6  # times that a worker says that it lives, until it counts as silent

log = logging.getLogger("jobs")
commands = AppGroup("jobs", help="Run jobs; list those that failed, and run them again.")

huey = Jobs()


def job(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make a function a job: a call enqueues it. The options are those of huey's `task`."""
    return huey.task(**{**RETRIES, **options})  # type: ignore[no-any-return]


def periodic(when: Callable[[Any], bool], **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make a function a job that runs at times, once for all workers."""
    return huey.periodic_task(when, **{**RETRIES, **options})  # type: ignore[no-any-return]


def init_app(app: Flask) -> None:
    """Find the queue, and add `flask jobs`."""
    app.config["JOBS_SILENCE"] = settings.number("JOBS_SILENCE", 30, 1, 3600)  # seconds until a worker counts as silent
    huey.app, huey.storage = app, _storage(app)
    app.cli.add_command(commands)


def _storage(app: Flask) -> Any:
    url = settings.text("JOBS_URL", "")
    if not url:
        file = f"{app.config['STATE_DIRECTORY']}/jobs.sqlite"
        return Sqlite("jobs", file, timeout=app.config["REQUEST_TIMEOUT"] / 2)
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise settings.SettingError("JOBS_URL must begin with redis://, rediss:// or unix://")
    try:
        return Redis(app.config["SERVICE"], url=url, clean_name=False)
    except ValueError:
        raise settings.SettingError("JOBS_URL is no URL") from None  # its text may hold a password


class Times(Scheduler):  # type: ignore[misc]
    """huey's scheduler; it looks often enough to miss no minute."""

    periodic_task_seconds = 5


class Worker(Consumer):  # type: ignore[misc]
    """huey's consumer. SIGTERM lets it end the jobs that it runs."""

    scheduler_class = Times


@commands.command()
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True, help="Jobs at once.")
def work(threads: int) -> None:
    """Run jobs until SIGTERM."""
    silence = current_app.config["JOBS_SILENCE"]
    while not _lives(silence):  # before it takes a job
        time.sleep(silence / BEATS)
    threading.Thread(target=_live, args=(silence,), daemon=True).start()
    # huey asks SQLite again and again; Redis answers when there is a job.
    Worker(huey, workers=threads, max_delay=10 if huey.storage.blocking else 1, graceful_signal="TERM").run()


def _live(silence: int) -> None:
    """Say that this worker lives as long as it does: SIGTERM ends its threads only after their jobs."""
    while True:
        time.sleep(silence / BEATS)
        _lives(silence)


def _lives(silence: int) -> bool:
    try:
        huey.look(silence)
    except Exception:
        log.exception("the queue of jobs does not answer")
        return False
    return True


@commands.command()
def status() -> None:
    """Print how many jobs there are, as JSON: whether the queue answers is the health of a worker."""
    try:
        counts = {"queued": huey.pending_count(), "scheduled": huey.scheduled_count()}
        counts.update(under_way=huey.storage.under_way(), dead=len(huey.dead()))
    except Exception as error:
        raise click.ClickException(f"the queue of jobs does not answer: {error}") from None
    click.echo(json.dumps(counts))


@commands.command("dead")
def show() -> None:
    """Print the jobs that have failed for good: id, time, name, arguments, error."""
    for name, kept in sorted(huey.dead().items(), key=lambda item: str(item[1]["at"])):
        values = json.dumps(kept["job"][6:8])
        click.echo(f"{name} {kept['at']} {kept['job'][1]} {values} {json.dumps(kept['error'])}")


@commands.command()
@click.argument("names", metavar="ID...", nargs=-1, required=True)
def retry(names: tuple[str, ...]) -> None:
    """Run failed jobs again."""
    for name in names:
        try:
            huey.retry(name)
        except KeyError:
            raise click.ClickException(f"there is no failed job {name}: `flask jobs dead` shows them") from None
        except Exception as error:
            raise click.ClickException(f"this release cannot run {name}: {error}") from None


@commands.command()
@click.argument("names", metavar="ID...", nargs=-1, required=True)
def drop(names: tuple[str, ...]) -> None:
    """Forget failed jobs."""
    for name in names:
        if not huey.delete(f"{DEAD}{name}"):
            raise click.ClickException(f"there is no failed job {name}: `flask jobs dead` shows them")
