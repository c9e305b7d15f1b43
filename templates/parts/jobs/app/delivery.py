"""Deliver each job at least once: it is under way from the queue to its end, and one whose worker dies is put back."""

from __future__ import annotations

import hashlib
import logging
from datetime import timedelta
from typing import Any

from flask import Flask
from huey import CancelExecution, Huey  # type: ignore[import-untyped]
from huey.storage import BaseStorage  # type: ignore[import-untyped]

from . import logs
from .queues import Json, message

LOST = 8  # times that a job is put back, after 2, 4, 8 ... seconds: it may be what kills its worker
DEAD = "dead:"

log = logging.getLogger("jobs")


class Jobs(Huey):  # type: ignore[misc]
    """A huey that loses no job. init_app gives it its application and its storage."""

    app: Flask
    storage_class = BaseStorage

    def __init__(self) -> None:
        super().__init__("jobs", results=False, serializer=Json())
        self._running: set[bytes] = set()
        self._stray: set[bytes] = set()
        self._minute = ""
        self.post_execute("jobs")(_note)

    def serialize_task(self, task: Any) -> bytes:
        """Return a job as it is kept: with the request that asked for it, and how often it was lost."""
        kept = {"job": self._registry.create_message(task), "request_id": logs.request_id.get(), "lost": 0}
        return bytes(self.serializer.serialize(kept))

    def deserialize_task(self, data: bytes) -> Any:
        """Return the job; an error if this release has none of its name."""
        kept = self.serializer.deserialize(data)
        task = self._registry.create_task(message(kept["job"]))
        task.kept, task.request_id, task.failure = data, kept["request_id"], None
        return task

    def dequeue(self) -> Any:
        """Return the next job. One that this release does not know is put back: another release may."""
        if (data := self.storage.dequeue()) is None:
            return None
        self._running.add(data)
        try:
            return self.deserialize_task(data)
        except Exception as error:
            self._put_back(data, f"this release cannot read it: {error!r}")
            self._running.discard(data)
            return None

    def execute(self, task: Any, timestamp: Any = None) -> None:
        """Run a job. It stays under way until its end is kept: without one it is put back."""
        before = logs.request_id.set(task.request_id)
        try:
            with self.app.app_context():
                super().execute(task, timestamp)
            if task.failure:
                self._bury(task.kept, task.failure)
            self.storage.settle(task.kept)
        finally:
            self._running.discard(task.kept)
            logs.request_id.reset(before)

    def read_periodic(self, timestamp: Any) -> list[Any]:
        """Enqueue what is due in this minute, unless another worker has. huey would enqueue what this returns."""
        now = timestamp or self._get_timestamp()
        minute = f"{now:%Y-%m-%dT%H:%M}"
        if minute != self._minute:
            for task in super().read_periodic(now):
                task.id = f"{self._registry.task_to_string(type(task))}@{minute}"
                self.storage.enqueue_once(task.id, self.serialize_task(task))
            self._minute = minute
        return []

    def look(self, silence: float) -> None:
        """Say that this worker lives. Put back what it had under way in two looks in a row, and did not run."""
        found = self.storage.beat(silence) - self._running
        for data in found & self._stray:
            self._put_back(data, "the worker that ran it died")
        self._stray = found

    def _put_back(self, data: bytes, reason: str) -> None:
        """Put a job into the schedule, once more but not for ever."""
        kept = self._read(data)
        kept["lost"] += 1
        if kept["lost"] > LOST:
            self._bury(data, reason)
        else:
            log.warning("a job is put back: %s", reason, extra=_fields(kept))
            due = self._get_timestamp() + timedelta(seconds=2 ** kept["lost"])
            self.storage.add_to_schedule(self.serializer.serialize(kept), due)
        self.storage.settle(data)

    def _bury(self, data: bytes, reason: str) -> None:
        """Keep a job that is not tried again; of a periodic one, the last alone."""
        kept = self._read(data)
        kept.update(error=logs.shorten(reason), at=f"{self._get_timestamp():%Y-%m-%dT%H:%M:%SZ}")
        log.error("a job has failed for good: %s", reason, extra=_fields(kept))
        self.storage.put_data(f"{DEAD}{kept['job'][0].partition('@')[0]}", self.serializer.serialize(kept))

    def _read(self, data: bytes) -> dict[str, Any]:
        """Return what is kept of a job, also if it is none."""
        try:
            kept: dict[str, Any] = self.serializer.deserialize(data)
            name, job = kept["job"][:2]
            if isinstance(name, str) and isinstance(job, str) and isinstance(kept["lost"], int):
                return kept
        except (ValueError, LookupError, TypeError):
            pass
        return {"job": [hashlib.sha256(data).hexdigest()[:16], "unknown", repr(data)], "lost": LOST}

    def dead(self) -> dict[str, Any]:
        """Return the dead letters, by their id."""
        found = self.storage.result_items().items()
        return {key[len(DEAD) :]: self.serializer.deserialize(data) for key, data in found if key.startswith(DEAD)}

    def retry(self, name: str) -> None:
        """Run a dead letter again, with all its retries; KeyError if there is none, another error if it is unknown."""
        task = self._registry.create_task(message(self.dead()[name]["job"]))
        task.retries, task.retry_delay, task.eta = type(task).default_retries, type(task).default_retry_delay, None
        self.enqueue(task)
        self.delete(f"{DEAD}{name}")


def _fields(kept: dict[str, Any]) -> dict[str, object]:
    return {"fields": {"job": kept["job"][1], "id": kept["job"][0]}}


def _note(task: Any, _value: object, error: Exception | None) -> None:
    """Note the error with which a job ends for good."""
    if error and not task.retries and not isinstance(error, CancelExecution):
        task.failure = repr(error)
