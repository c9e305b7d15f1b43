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
from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask, current_app
from sqlalchemy import Connection, Engine, create_engine, event, exc, make_url
from sqlalchemy.orm import DeclarativeBase, Session
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.wrappers import Response

from . import health, migrations, settings

# PostgreSQL has rolled the transaction back, and asks to try again: a conflict of two, a deadlock, a lock in use.
AGAIN = ("40001", "40P01", "55P03")
ATTEMPTS = 6

log = logging.getLogger("database")

Result = TypeVar("Result")


class Base(DeclarativeBase):
    """The base class of all models."""

    metadata = migrations.metadata


def init_app(app: Flask) -> None:
    """Make the engine, the check for /readyz and `flask db`. Each host has a SQLite of its own: bring its schema."""
    app.extensions["database"] = _engine(app)
    app.cli.add_command(migrations.commands)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    for error in (exc.OperationalError, exc.InterfaceError, exc.TimeoutError):
        app.register_error_handler(error, _unavailable)
    health.add(app, database)
    with app.app_context():
        migrations.announce()
        if engine().dialect.name == "sqlite":
            try:
                upgrade()
            except (exc.SQLAlchemyError, migrations.MigrationError) as error:
                log.error("the schema stays as it is: %s", error)  # /readyz fails if this release cannot use it


def engine() -> Engine:
    """Return the engine: its pool of connections is shared by the threads of this worker."""
    return current_app.extensions["database"]  # type: ignore[no-any-return]


def reading() -> Session:
    """Return a session for a `with` block that only reads."""
    return Session(engine())


def transaction(work: Callable[[Session], Result], *, migrates: bool = False) -> Result:
    """Run `work` in a transaction, commit, return its result. Run it again if the database undid it, or was gone.

    If the connection is lost at the commit, the outcome is not known: that is raised, never tried again.
    """
    bind = engine().execution_options(writes=True, migrates=migrates)
    for attempt in range(ATTEMPTS):
        commits = False
        with Session(bind, expire_on_commit=False) as session:
            try:
                result = work(session)
                session.flush()
                commits = True
                session.commit()
                return result
            except exc.DBAPIError as error:
                undone = getattr(error.orig, "sqlstate", None) in AGAIN
                if attempt == ATTEMPTS - 1 or not (undone or (error.connection_invalidated and not commits)):
                    raise
        time.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311
    raise AssertionError


def upgrade() -> None:
    """Bring the schema to that of this release, all of it or nothing. The second time it changes nothing."""
    with migrations.alone():
        transaction(migrations.migrate, migrates=True)


migrations.commands.command()(upgrade)


def database() -> None:
    """Check once that the database has what this release needs; one that is down after that ends no release."""
    if "database-fits" in current_app.extensions:
        return
    try:
        with engine().connect() as connection:
            reasons = migrations.lacking(connection)
    except exc.SQLAlchemyError as error:
        raise health.CheckError("the database does not answer, or its schema cannot be read") from error
    if reasons:
        log.error("this release cannot use the database: %s", "; ".join(reasons))
        raise health.CheckError("the database lacks what this release needs: the log says what")
    current_app.extensions["database-fits"] = True


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
        # How long a writer waits for another. _begin begins: Python would end a transaction at a change of the schema.
        "sqlite": {"timeout": seconds / 2, "isolation_level": None},
        "postgresql": {"connect_timeout": 5, "options": f"-c statement_timeout={seconds}s -c lock_timeout={seconds}s"},
    }.get(url.get_backend_name(), {})
    if not arguments:
        raise settings.SettingError("DATABASE_URL must be one of SQLite or PostgreSQL")
    made = create_engine(
        url,
        connect_args={name: value for name, value in arguments.items() if name not in url.query},
        pool_size=settings.number("DATABASE_POOL", 5, 1, 100),  # connections of each worker
        max_overflow=0,
        pool_timeout=seconds / 2,
        pool_pre_ping=True,
    )
    if made.dialect.name == "sqlite":
        event.listen(made, "begin", _begin)
    os.register_at_fork(after_in_child=lambda: made.dispose(close=False))  # with preload_app
    return made


def _begin(connection: Connection) -> None:
    """Begin a transaction of SQLite; one that writes waits for its turn now, and no later conflict can end it."""
    options = connection.get_execution_options()
    migrates = options.get("migrates")
    # With foreign keys, the copy of a table, which is how a migration alters one, deletes what refers to it.
    connection.exec_driver_sql(f"PRAGMA foreign_keys={'OFF' if migrates else 'ON'}")
    if migrates:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL").close()
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writes") else "BEGIN")


def _unavailable(error: Exception) -> Response:
    log.error("the database does not answer", exc_info=error)
    return current_app.handle_http_exception(ServiceUnavailable("the database does not answer", retry_after=5))  # type: ignore[return-value]
