"""What the API keeps, in a SQLite of its own in the state directory: notes, and the answers of idempotency keys.

All workers, of both slots, see the same. The part `database` has migrations, and PostgreSQL for several hosts.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from flask import Response, current_app, g
from werkzeug.datastructures import Headers

from .errors import Problem

KEPT = 24 * 60 * 60  # seconds that the answer for a key is kept
TABLES = (
    "CREATE TABLE IF NOT EXISTS notes"
    " (number INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL, done INT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, at REAL NOT NULL, request TEXT NOT NULL,"
    " status INT NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS answers_at ON answers (at)",
)


@contextmanager
def reading() -> Iterator[sqlite3.Connection]:
    """Yield a connection that sees one state."""
    with _open("BEGIN") as connection:
        yield connection


@contextmanager
def writing() -> Iterator[sqlite3.Connection]:
    """Yield a connection, alone with the right to write; commit at the end. One inside another is a part of it."""
    if "writing" in g:
        yield g.writing
        return
    with _open("BEGIN IMMEDIATE") as connection:
        g.writing = connection
        try:
            yield connection
            connection.execute("COMMIT")
        finally:
            g.pop("writing")


def once(name: tuple[str, ...], body: bytes, work: Callable[[], Response]) -> Response:
    """Do `work` and keep its answer under a name, in one transaction; the second time, give that answer again.

    What `work` writes by `writing` is there if, and only if, the answer is: a crash leaves both or none.
    """
    key = hashlib.sha256(json.dumps(name).encode()).hexdigest()
    asked = hashlib.sha256(body).hexdigest()
    with writing() as connection:
        connection.execute("DELETE FROM answers WHERE at < ?", (time.time() - KEPT,))
        row = connection.execute("SELECT request, body, status, headers FROM answers WHERE key = ?", (key,)).fetchone()
        if row is None:
            answer = work()
            values = (key, time.time(), asked, answer.status_code, json.dumps([*answer.headers]), answer.get_data())
            connection.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?)", values)
            return answer
    if row[0] != asked:
        raise Problem(422, "this Idempotency-Key came with another request: choose a new key")
    given = Response(row[1], row[2])
    given.headers = Headers(json.loads(row[3]))
    return given


@contextmanager
def _open(begin: str) -> Iterator[sqlite3.Connection]:
    path = Path(current_app.config["STATE_DIRECTORY"], "api.sqlite")
    seconds = current_app.config["REQUEST_TIMEOUT"] / 2  # that a writer waits for another
    with closing(sqlite3.connect(path, timeout=seconds, isolation_level=None)) as connection:
        for statement in (*TABLES, begin):
            connection.execute(statement)
        yield connection
