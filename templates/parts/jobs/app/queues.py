"""Keep jobs so that none is lost, in SQLite or Redis.

huey takes a job out of its queue, and then runs it. Here the job moves, in one step, to what its worker has under way,
and leaves that when it has ended: well, or put into the schedule for its next try, or among the dead letters. Workers
say all the time that they live; what a silent one had is put back. So a job runs at least once, and perhaps twice.
"""

from __future__ import annotations

import json
import time
import uuid
from datetime import datetime
from typing import Any

from huey.registry import Message  # type: ignore[import-untyped]
from huey.serializer import Serializer  # type: ignore[import-untyped]
from huey.storage import RedisStorage, SqliteStorage  # type: ignore[import-untyped]

WORKER = uuid.uuid4().hex  # this process, as a worker

# KEYS: the schedule, the queue. ARGV: the time.
DUE = """for _, job in ipairs(redis.call('zrangebyscore', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 1000)) do
redis.call('lpush', KEYS[2], job) redis.call('zrem', KEYS[1], job) end"""
# KEYS: a name of its own, the queue. ARGV: the job.
ONCE = "if redis.call('set', KEYS[1], '', 'NX', 'EX', 86400) then redis.call('lpush', KEYS[2], ARGV[1]) end"


class Sqlite(SqliteStorage):  # type: ignore[misc]
    """huey's storage in SQLite, with a table of what is under way."""

    ddl = (
        *SqliteStorage.ddl,
        "create table if not exists worker (name text primary key, until real not null)",
        "create table if not exists underway (id integer primary key, worker text not null, data blob not null)",
        "create table if not exists once (name text primary key, at real not null)",
    )

    def dequeue(self) -> bytes | None:
        """Move the next job to what this worker has under way."""
        if not self.sql("select 1 from task limit 1", results=True):
            return None
        with self.db(commit=True) as cursor:
            row = cursor.execute("select id, data from task order by priority desc, id limit 1").fetchone()
            if row:
                cursor.execute("delete from task where id = ?", row[:1])
                cursor.execute("insert into underway (worker, data) values (?, ?)", (WORKER, row[1]))
        return row[1] if row else None

    def read_schedule(self, ts: datetime) -> list[bytes]:
        """Move what is due to the queue. huey would enqueue what this returns: nothing."""
        with self.db(commit=True) as cursor:
            due = (ts.timestamp(),)
            which = "from schedule where timestamp <= ?"
            cursor.execute(f"insert into task (queue, data) select queue, data {which} order by timestamp, id", due)
            cursor.execute(f"delete {which}", due)
        return []

    def settle(self, data: bytes) -> None:
        """Forget a job that has ended."""
        self.sql("delete from underway where worker = ? and data = ?", (WORKER, data), commit=True)

    def beat(self, seconds: float) -> set[bytes]:
        """Say that this worker lives, take over what silent ones had, and return all that it has under way."""
        now = time.time()
        with self.db(commit=True) as cursor:
            cursor.execute("delete from worker where until < ?", (now,))
            cursor.execute("replace into worker values (?, ?)", (WORKER, now + seconds))
            cursor.execute("update underway set worker = ? where worker not in (select name from worker)", (WORKER,))
            return {data for (data,) in cursor.execute("select data from underway where worker = ?", (WORKER,))}

    def enqueue_once(self, name: str, data: bytes) -> None:
        """Enqueue a job unless one of this name was: of several workers, one does."""
        now = time.time()
        with self.db(commit=True) as cursor:
            cursor.execute("delete from once where at < ?", (now - 86400,))
            if cursor.execute("insert or ignore into once values (?, ?)", (name, now)).rowcount:
                cursor.execute("insert into task (queue, data) values (?, ?)", (self.name, data))

    def under_way(self) -> int:
        """Return how many jobs are under way, of all workers."""
        return int(self.sql("select count(*) from underway", results=True)[0][0])


class Redis(RedisStorage):  # type: ignore[misc]
    """huey's storage in Redis, with a list for each worker of what it has under way. Several hosts may share it."""

    def _own(self, name: str) -> str:
        return f"jobs.{self.name}.{name}"

    def dequeue(self) -> bytes | None:
        """Move the next job to what this worker has under way; wait a second for one."""
        job: bytes | None = self.conn.brpoplpush(self.queue_key, self._own(WORKER), timeout=self.read_timeout)
        return job

    def read_schedule(self, ts: datetime) -> list[bytes]:
        """Move what is due to the queue. huey would enqueue what this returns: nothing."""
        self.conn.eval(DUE, 2, self.schedule_key, self.queue_key, self.convert_ts(ts))
        return []

    def settle(self, data: bytes) -> None:
        """Forget a job that has ended."""
        self.conn.lrem(self._own(WORKER), 0, data)

    def beat(self, seconds: float) -> set[bytes]:
        """Say that this worker lives, take over what silent ones had, and return all that it has under way."""
        now = self.conn.time()[0]
        self.conn.zadd(self._own("workers"), {WORKER: now + seconds})
        for name in set(self.conn.zrangebyscore(self._own("workers"), "-inf", now - 1)) - {WORKER.encode()}:
            while self.conn.rpoplpush(self._own(name.decode()), self._own(WORKER)):
                pass
        # One that was silent for a while may live, and take a further job: its list is looked at for a day.
        self.conn.zremrangebyscore(self._own("workers"), "-inf", now - 86400)
        return set(self.conn.lrange(self._own(WORKER), 0, -1))

    def enqueue_once(self, name: str, data: bytes) -> None:
        """Enqueue a job unless one of this name was: of several workers, one does."""
        self.conn.eval(ONCE, 2, self._own(name), self.queue_key, data)

    def under_way(self) -> int:
        """Return how many jobs are under way, of all workers."""
        return sum(self.conn.llen(self._own(name.decode())) for name in self.conn.zrange(self._own("workers"), 0, -1))


class Json(Serializer):  # type: ignore[misc]
    """Writes JSON: it executes nothing when it is read, and means the same to two releases."""

    def _serialize(self, data: object) -> bytes:
        return json.dumps(data, default=lambda value: {"__time__": datetime.isoformat(value)}).encode()

    def _deserialize(self, data: bytes) -> Any:
        return json.loads(data, object_hook=_object)


def _object(found: dict[str, Any]) -> Any:
    return datetime.fromisoformat(found["__time__"]) if set(found) == {"__time__"} else found


def message(values: list[Any]) -> Any:
    """Return huey's message of what JSON made a list, with those that follow it."""
    made = Message(*values)
    chord = made.chord_config
    return made._replace(
        args=tuple(made.args),
        on_complete=made.on_complete and message(made.on_complete),
        on_error=made.on_error and message(made.on_error),
        chord_config=chord and (*chord[:3], message(chord[3])),
    )
