"""A database by SQLAlchemy: SQLite in the state directory, or PostgreSQL by DATABASE_URL. migrations.py has its schema.

class Shift(database.Base): ...                                  # a model; then `flask db revision "add shifts"`

with database.reading() as session: ...                          # to read
database.transaction(lambda session: session.add(Shift(...)))    # to write; the function may run more than once
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from flask import Flask, current_app
from sqlalchemy import Connection, Engine, create_engine, event, exc, make_url
from sqlalchemy.orm import DeclarativeBase, Session
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.wrappers import Response

from . import health, migrations, settings

log = logging.getLogger("database")

Result = TypeVar("Result")


class Base(DeclarativeBase):
    """The base class of all models."""

    metadata = migrations.metadata


def init_app(app: Flask) -> None:
    """Make the engine, the check for /readyz and `flask db`. Each host has a SQLite of its own: bring its schema."""
    engine = app.extensions["database"] = _engine(app)
    app.cli.add_command(migrations.commands)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    for error in (exc.OperationalError, exc.InterfaceError, exc.TimeoutError):
        app.register_error_handler(error, _unavailable)
    health.add(app, database)
    with app.app_context():
        migrations.announce()
        if engine.dialect.name == "sqlite":
            try:
                migrations.upgrade()
            except (exc.SQLAlchemyError, migrations.MigrationError) as error:
                log.error("the schema stays as it is: %s", error)  # /readyz fails if this release cannot use it


def engine() -> Engine:
    """Return the engine: its pool of connections is shared by the threads of this worker."""
    return current_app.extensions["database"]  # type: ignore[no-any-return]


@contextmanager
def reading() -> Iterator[Session]:
    """Yield a session that sees one state of the database. It writes nothing."""
    with Session(engine(), expire_on_commit=False) as session:
        yield session


def transaction(work: Callable[[Session], Result]) -> Result:
    """Run `work` in a transaction, commit, return its result. Run it again if the database undid it, or was gone.

    If the connection is lost at the commit, the outcome is not known: that is raised, never tried again.
    """
    for attempt in range(migrations.ATTEMPTS):
        last = attempt == migrations.ATTEMPTS - 1
        with Session(engine().execution_options(write=True), expire_on_commit=False) as session:
            try:
                result = work(session)
                session.flush()
            except exc.DBAPIError as error:
                if last or not (error.connection_invalidated or migrations.asks_again(error)):
                    raise
            else:
                try:
                    session.commit()
                    return result
                except exc.DBAPIError as error:
                    if last or not migrations.asks_again(error):
                        raise
        time.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311
    raise AssertionError


def database() -> None:
    """Check once that the database has what this release needs; one that is down after that ends no release."""
    state = current_app.extensions.setdefault("database-state", {})
    if state.get("fits"):
        return
    try:
        with engine().connect() as connection:
            reasons = migrations.lacking(connection)
    except exc.SQLAlchemyError as error:
        raise health.CheckError("the database does not answer, or its schema cannot be read") from error
    if reasons:
        log.error("this release cannot use the database: %s", "; ".join(reasons))
        raise health.CheckError("the database lacks what this release needs: the log says what")
    state["fits"] = True


def _engine(app: Flask) -> Engine:
    given = settings.text("DATABASE_URL", f"sqlite:///{app.config['STATE_DIRECTORY']}/database.sqlite")
    try:
        url = make_url(given)
    except exc.ArgumentError:
        raise settings.SettingError("DATABASE_URL is no URL") from None  # its text may hold a password
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    seconds = app.config["REQUEST_TIMEOUT"]
    arguments: dict[str, Any] = {
        "sqlite": {"timeout": seconds / 2},  # that a writer waits for another
        "postgresql": {"connect_timeout": 5, "options": f"-c statement_timeout={seconds}s -c lock_timeout={seconds}s"},
    }.get(url.get_backend_name(), {})
    if not arguments:
        raise settings.SettingError("DATABASE_URL must be one of SQLite or PostgreSQL")
    kept = {name: value for name, value in arguments.items() if name not in url.query}
    size = settings.number("DATABASE_POOL", 5, 1, 100)  # connections of each worker
    made = create_engine(
        url, connect_args=kept, pool_size=size, max_overflow=0, pool_timeout=seconds / 2, pool_pre_ping=True
    )
    if made.dialect.name == "sqlite":
        event.listen(made, "connect", _connected)
        event.listen(made, "begin", _begin)
    os.register_at_fork(after_in_child=lambda: made.dispose(close=False))  # with preload_app
    return made


def _connected(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # Python's module would end a transaction at each change of the schema
    connection.execute("PRAGMA foreign_keys=ON")


def _begin(connection: Connection) -> None:
    """Begin a transaction that writes as one: it waits for its turn now, and no later conflict can end it."""
    writes = connection.get_execution_options().get("write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _unavailable(error: Exception) -> Response:
    log.error("the database does not answer", exc_info=error)
    return current_app.handle_http_exception(ServiceUnavailable("the database does not answer", retry_after=5))  # type: ignore[return-value]
