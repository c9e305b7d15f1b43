"""GET /metrics for Prometheus: how many requests, and how long they took; of all workers, of both slots.

Each worker writes its counts to files of its own in the state directory, and any worker adds them all up. The files are
named after places, not after processes: a worker takes a free place for its life, and goes on from the counts there. So
no counter falls at a restart, a switch or a crash, and there are as many files as there have been workers at once.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
import time
from pathlib import Path
from typing import IO

from flask import Flask, Response, current_app, g, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

from . import access, auth

FORMAT = 1  # raise it when labels or buckets change: releases with different ones cannot share files
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SPACE = 1 << 20  # bytes of each file, taken from the disk at once: a write to it by mmap must never find the disk full

log = logging.getLogger("metrics")

_held: dict[int, tuple[str, IO[bytes]]] = {}  # of this process, and of those that it was forked from


def init_app(app: Flask) -> None:
    """Count every request, and add the route. Without space for the files the service runs all the same."""
    folder = Path(app.config["STATE_DIRECTORY"], "metrics", str(FORMAT))
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        for kind in ("counter", "histogram"):
            with (folder / f"{kind}_{_place()}.db").open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, SPACE)
    except OSError:
        log.exception("no metrics: no room in the state directory")
        return
    values.ValueClass = values.MultiProcessValue(_place)  # type: ignore[no-untyped-call]
    labels = ("route", "method", "status")
    app.extensions["metrics"] = (
        Counter("http_requests", "Requests", labels, registry=None),
        Histogram("http_request_seconds", "Seconds until an answer", labels[:2], buckets=BUCKETS, registry=None),
    )
    app.after_request(_count)
    app.add_url_rule("/metrics", view_func=metrics)


def _place() -> str:
    """Return the place of this process: the name of its files, which no other process writes while it lives."""
    if os.getpid() not in _held:
        for number in itertools.count():
            lock = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"], f".{number}").open("ab")  # noqa: SIM115
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            _held[os.getpid()] = str(number), lock
            break
    return _held[os.getpid()][0]


def _count(response: Response) -> Response:
    if request.headers.get(access.CHECK) in access.WAYS:
        return response  # a health check of the host
    requests, seconds = current_app.extensions["metrics"]
    # Labels that a client could invent would fill the disk: a route in place of a path, and known methods alone.
    route = request.url_rule.rule if request.url_rule else "none"
    method = request.method if request.method in METHODS else "other"
    try:
        requests.labels(route, method, response.status_code).inc()
        seconds.labels(route, method).observe(time.monotonic() - g.started)
    except OSError:
        log.exception("a request is not counted")
    return response


@auth.role("reader")
def metrics() -> Response:
    """Counts and times of requests, for Prometheus."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, os.environ["PROMETHEUS_MULTIPROC_DIR"])  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
