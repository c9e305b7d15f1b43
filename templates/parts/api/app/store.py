"""The SQLite of the API in the state directory, which all workers of both slots share; it also keeps answers by key."""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import current_app, g, request
from werkzeug.exceptions import ServiceUnavailable

from .errors import Problem

KEPT = 24 * 60 * 60  # seconds that the answer for a key is kept
TABLES = [
    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, at REAL, request TEXT, answer TEXT)",
    "CREATE INDEX IF NOT EXISTS answers_at ON answers (at)",
]


def opened() -> sqlite3.Connection:
    """Return the connection of this request: all of it sees one state, and if it is not a GET, no other may write."""
    if "store" not in g:
        path = Path(current_app.config["STATE_DIRECTORY"], "api.sqlite")
        seconds = current_app.config["REQUEST_TIMEOUT"] / 2  # that a writer waits for another
        g.store = sqlite3.connect(path, timeout=seconds, isolation_level=None)
        for statement in (*TABLES, "BEGIN" if request.method in ("GET", "HEAD") else "BEGIN IMMEDIATE"):
            g.store.execute(statement)
    return g.store  # type: ignore[no-any-return]


@contextmanager
def transaction() -> Iterator[None]:
    """Keep what the block writes, all of it at its end, or if it fails nothing."""
    try:
        yield
        if "store" in g:
            g.store.commit()
    except sqlite3.OperationalError:
        logging.getLogger("api").exception("the store does not answer")
        raise ServiceUnavailable("the store does not answer", retry_after=5) from None
    finally:
        if "store" in g:
            g.pop("store").close()


def once(name: tuple[str, ...], work: Callable[[], Any]) -> Any:
    """Do `work` and keep what it returns (JSON) under a name; the second time, return that again."""
    key, asked = (hashlib.sha256(text).hexdigest() for text in (json.dumps(name).encode(), request.get_data()))
    opened().execute("DELETE FROM answers WHERE at < ?", (time.time() - KEPT,))
    row = opened().execute("SELECT request, answer FROM answers WHERE key = ?", (key,)).fetchone()
    if row is None:
        row = (asked, json.dumps(work()))
        opened().execute("INSERT INTO answers VALUES (?, ?, ?, ?)", (key, time.time(), *row))
    if row[0] != asked:
        raise Problem(422, "this Idempotency-Key came with another request: choose a new key")
    return json.loads(row[1])
