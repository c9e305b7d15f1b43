"""A huey that loses no job, in SQLite or Redis.

huey takes a job out of its queue, and then runs it. Here the job moves, in one step, to what is under way, and leaves
that when it has ended: well, or put into the schedule for its next try, or among the dead letters. Its worker marks it
anew all the time; if a mark stays the same for long, the worker is dead, and another puts the job back. So a job runs
at least once, and perhaps twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import uuid
from datetime import datetime, timedelta
from typing import Any

from flask import Flask
from huey import CancelExecution, Huey  # type: ignore[import-untyped]
from huey.registry import Message, Registry  # type: ignore[import-untyped]
from huey.serializer import Serializer  # type: ignore[import-untyped]
from huey.storage import BaseStorage, RedisStorage, SqliteStorage  # type: ignore[import-untyped]

from . import logs

LOOKS = 6  # times that a mark is found again: then its worker is dead
LOST = 8  # times that a job is put back, after 2, 4, 8 ... seconds: it may be what kills its worker
UNDER_WAY = ".underway"  # the end of the name of a second storage: its values are the marks, by job
DEAD, LAST = "dead:", "last:"  # keys of values: a dead letter, the last minute of a periodic job

# KEYS: the queue, the marks.
TAKE = "local job = redis.call('rpop', KEYS[1]) if job then redis.call('hset', KEYS[2], job, '') end return job"
# KEYS: the schedule, the queue. ARGV: the time.
DUE = """for _, job in ipairs(redis.call('zrangebyscore', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 1000)) do
redis.call('lpush', KEYS[2], job) redis.call('zrem', KEYS[1], job) end"""
# KEYS: the values, the queue. ARGV: a key of a value, the minute, the job.
ONCE = """if (redis.call('hget', KEYS[1], ARGV[1]) or '') < ARGV[2] then
redis.call('hset', KEYS[1], ARGV[1], ARGV[2]) redis.call('lpush', KEYS[2], ARGV[3]) end"""

log = logging.getLogger("jobs")


class Sqlite(SqliteStorage):  # type: ignore[misc]
    """huey's storage in SQLite. A job that it hands out is under way."""

    def dequeue(self) -> bytes | None:
        """Move the next job to what is under way."""
        if not self.enqueued_items(limit=1):  # this needs no lock
            return None
        with self.db(commit=True) as cursor:
            row = cursor.execute("select id, data from task order by priority desc, id limit 1").fetchone()
            if row:
                cursor.execute("delete from task where id = ?", row[:1])
                cursor.execute("replace into kv values (?, ?, '')", (self.name + UNDER_WAY, row[1]))
        return row[1] if row else None

    def read_schedule(self, ts: datetime) -> list[bytes]:
        """Move what is due to the queue. huey would enqueue what this returns: nothing."""
        with self.db(commit=True) as cursor:
            due, which = (ts.timestamp(),), "from schedule where timestamp <= ?"
            cursor.execute(f"insert into task (queue, data) select queue, data {which} order by timestamp, id", due)
            cursor.execute(f"delete {which}", due)
        return []

    def enqueue_once(self, name: str, minute: str, data: bytes) -> None:
        """Enqueue a periodic job, unless it was in this minute: of several workers, one does."""
        last = "insert into kv values (?, ?, ?) on conflict (queue, key) do update set value = excluded.value"
        with self.db(commit=True) as cursor:
            cursor.execute(f"{last} where value < excluded.value", (self.name, LAST + name, minute))
            if cursor.rowcount:
                cursor.execute("insert into task (queue, data) values (?, ?)", (self.name, data))


class Redis(RedisStorage):  # type: ignore[misc]
    """The same in Redis. Several hosts may share it."""

    def dequeue(self) -> bytes | None:
        """Move the next job to what is under way; wait a second for one."""
        job: bytes | None = self.conn.eval(TAKE, 2, self.queue_key, self.result_key + UNDER_WAY)
        if job is None:  # this only waits: from the queue to the queue
            self.conn.brpoplpush(self.queue_key, self.queue_key, timeout=self.read_timeout)
        return job

    def read_schedule(self, ts: datetime) -> list[bytes]:
        """Move what is due to the queue. huey would enqueue what this returns: nothing."""
        self.conn.eval(DUE, 2, self.schedule_key, self.queue_key, self.convert_ts(ts))
        return []

    def enqueue_once(self, name: str, minute: str, data: bytes) -> None:
        """Enqueue a periodic job, unless it was in this minute: of several workers, one does."""
        self.conn.eval(ONCE, 2, self.result_key, self.queue_key, LAST + name, minute, data)


class Json(Serializer):  # type: ignore[misc]
    """Writes JSON: it executes nothing when it is read, and means the same to two releases."""

    def _serialize(self, data: object) -> bytes:
        return json.dumps(data, default=lambda value: {"__time__": datetime.isoformat(value)}).encode()

    def _deserialize(self, data: bytes) -> Any:
        return json.loads(data, object_hook=_time)


def _time(found: dict[str, Any]) -> Any:
    return datetime.fromisoformat(found["__time__"]) if found.keys() == {"__time__"} else found


class Tasks(Registry):  # type: ignore[misc]
    """huey's tasks by name. Of its messages it makes what JSON can say, and back."""

    def create_message(self, task: Any) -> Any:
        """Return a task, and those that follow it, as dictionaries."""
        return super().create_message(task)._asdict()

    def create_task(self, message: Any) -> Any:
        """Return the task; an error if this release has none of its name."""
        made = Message(*map(message.get, Message._fields))
        return super().create_task(made._replace(args=tuple(made.args)))


class Jobs(Huey):  # type: ignore[misc]
    """A huey that loses no job. init_app gives it its application and its storages."""

    app: Flask
    under_way: Any
    storage_class = BaseStorage

    def __init__(self) -> None:
        super().__init__("jobs", results=False, serializer=Json())
        self._registry = Tasks()
        self._running: set[bytes] = set()
        self._ending = threading.Lock()
        self._seen: dict[tuple[bytes | str, bytes], int] = {}  # looks in a row that found a job with the same mark

    def serialize_task(self, task: Any) -> bytes:
        """Return a job as it is kept: with the request that asked for it, and how often it was lost."""
        kept = {**self._registry.create_message(task), "request_id": logs.request_id.get(), "lost": 0}
        return bytes(self.serializer.serialize(kept))

    def deserialize_task(self, data: bytes) -> Any:
        """Return the job."""
        kept = self.serializer.deserialize(data)
        task = self._registry.create_task(kept)
        task.kept, task.request_id = data, kept["request_id"]
        return task

    def dequeue(self) -> Any:
        """Return the next job. One that this release does not know is put back: another release may."""
        if (data := self.storage.dequeue()) is None:
            return None
        try:
            task = self.deserialize_task(data)
        except Exception as error:
            return self._put_back(data, f"this release cannot read it: {error!r}")
        self._running.add(data)
        return task

    def execute(self, task: Any, timestamp: Any = None) -> None:
        """Run a job. It stays under way until its end is kept: without one it is put back."""
        before = logs.request_id.set(task.request_id)
        try:
            with self.app.app_context():
                super().execute(task, timestamp)
        finally:
            logs.request_id.reset(before)
            with self._ending:
                self._running.discard(task.kept)
        self.under_way.delete_data(task.kept)

    def build_error_result(self, task: Any, error: Exception) -> Any:
        """Keep a job that has no more tries. huey calls this with each error."""
        if not task.retries and not isinstance(error, CancelExecution):
            self._bury(self.serializer.deserialize(task.kept), repr(error))
        return super().build_error_result(task, error)

    def read_periodic(self, timestamp: Any) -> list[Any]:
        """Enqueue what is due in this minute, unless another worker has. huey would enqueue what this returns."""
        now = timestamp or self._get_timestamp()
        for task in super().read_periodic(now):
            name, minute = self._registry.task_to_string(type(task)), f"{now:%Y-%m-%dT%H:%M}"
            task.id = f"{name}@{minute}"
            self.storage.enqueue_once(name, minute, self.serialize_task(task))
        return []

    def look(self) -> None:
        """Mark what runs here anew. Put back what has the same mark as in the looks before."""
        with self._ending:
            for data in self._running.copy():
                self.under_way.put_data(data, uuid.uuid4().bytes)
        self._seen = {item: self._seen.get(item, 0) + 1 for item in self.under_way.result_items().items()}
        for (key, _), looks in self._seen.items():
            if looks > LOOKS:
                self._put_back(key.encode() if isinstance(key, str) else key, "the worker that ran it died")

    def _put_back(self, data: bytes, reason: str) -> None:
        """Put a job into the schedule, once more but not for ever."""
        try:
            kept = self.serializer.deserialize(data)
            kept.update(id=str(kept["id"]), name=str(kept["name"]), lost=kept["lost"] + 1)
        except Exception:  # it is no job
            digest = hashlib.sha256(data).hexdigest()
            kept = {"id": digest[:16], "name": "unknown", "args": [repr(data)], "kwargs": {}, "lost": LOST + 1}
        if kept["lost"] > LOST:
            self._bury(kept, reason)
        else:
            log.warning("a job is put back: %s", reason, extra=_fields(kept))
            due = self._get_timestamp() + timedelta(seconds=2 ** kept["lost"])
            self.storage.add_to_schedule(self.serializer.serialize(kept), due)
        self.under_way.delete_data(data)

    def _bury(self, kept: dict[str, Any], reason: str) -> None:
        """Keep a job that is not tried again; of a periodic one, the last alone."""
        kept.update(error=logs.shorten(reason), at=f"{self._get_timestamp():%Y-%m-%dT%H:%M:%SZ}")
        log.error("a job has failed for good: %s", reason, extra=_fields(kept))
        self.put(DEAD + kept["id"].partition("@")[0], kept)

    def dead(self) -> dict[str, Any]:
        """Return the dead letters, by their id."""
        found = self.all_results().items()
        return {key[len(DEAD) :]: self.serializer.deserialize(data) for key, data in found if key.startswith(DEAD)}

    def retry(self, name: str) -> bool:
        """Run a dead letter again, with all its retries. Return False if there is none; an error if it is unknown."""
        if kept := self.get(DEAD + name, peek=True):
            self.enqueue(self._registry.create_task({**kept, "retries": None, "retry_delay": None, "eta": None}))
        return bool(self.delete(DEAD + name))


def _fields(kept: dict[str, Any]) -> dict[str, object]:
    return {"fields": {"job": kept["name"], "id": kept["id"]}}
