"""The schema of the database, by Alembic: `flask db upgrade` brings it, `flask db revision` writes a migration.

Two releases use the database at once, and a rollback brings the former one back. So an upgrade is one transaction, and
is undone if a release that runs now could not go on with its result: add in one release, take away in a later one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from alembic import command, context
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import current_app
from flask.cli import AppGroup
from sqlalchemy import Connection, MetaData, inspect, text
from sqlalchemy.exc import DBAPIError

FOLDER = Path(__file__).parents[1] / "migrations"
LOCK = 7_206_140_017  # of PostgreSQL: of two hosts that migrate one database, one waits

ATTEMPTS = 6
# PostgreSQL has rolled the transaction back, and asks to try again: a conflict of two, a deadlock, a lock in use.
AGAIN = ("40001", "40P01", "55P03")

# By its name a later migration finds a constraint.
NAMES = {"ix": "ix_%(column_0_label)s", "uq": "uq_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s",
         "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s"}  # fmt: skip
metadata = MetaData(naming_convention=NAMES)

log = logging.getLogger("migrations")

commands = AppGroup("db", help="Migrate the database.")

_held: dict[str, int] = {}  # files that say what this process needs of the database, each open and locked

Needs = list[tuple[str, list[str]]]


class MigrationError(Exception):
    """The schema stays as it is."""


@commands.command("upgrade")
def _upgrade() -> None:
    """Bring the schema to that of this release. The second time it changes nothing."""
    try:
        upgrade()
    except MigrationError as error:
        raise click.ClickException(str(error)) from None


@commands.command("revision")
@click.argument("message")
def _revision(message: str) -> None:
    """Write the migration from the database, which must be up to date, to the models."""
    with current_app.extensions["database"].connect() as connection:
        command.revision(_config(connection), message, autogenerate=True)


def announce() -> None:
    """Say to the upgrades of other releases, as long as this process lives, what it needs of the database."""
    content = json.dumps(_needs()).encode()
    try:
        path = str(_folder() / f"{hashlib.sha256(content).hexdigest()[:16]}.json")
        if path not in _held:
            _held[path] = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            os.pwrite(_held[path], content, 0)  # the name is the digest: what is there is the same
            fcntl.flock(_held[path], fcntl.LOCK_SH)
    except OSError:
        log.exception("a migration will not know what this release needs")


def lacking(connection: Connection) -> list[str]:
    """Return what this release needs and the schema has not. A schema of a later release may have all of it."""
    scripts = ScriptDirectory.from_config(_config(connection))
    current = _current(connection)
    if _known(scripts, current) and current != set(scripts.get_heads()):
        there, wanted = (", ".join(sorted(some)) or "none" for some in (current, scripts.get_heads()))
        return [f"its schema is {there}, and must be {wanted}: run `flask db upgrade`"]
    return _unfit(connection, _needs())


def upgrade() -> None:
    """Bring the schema to that of this release, all of it or nothing. A schema of a later release stays."""
    for attempt in range(ATTEMPTS):
        try:
            with _alone(), _migrating() as connection:
                config = _config(connection)
                before = _current(connection)
                if _known(ScriptDirectory.from_config(config), before):
                    command.upgrade(config, "heads")
                else:
                    log.warning("the schema is that of a later release, and stays")
                _check_all(connection)
                after = _current(connection)
            if after != before:
                log.info("the schema is %s now", ", ".join(sorted(after)))
            return
        except DBAPIError as error:
            if attempt == ATTEMPTS - 1 or not asks_again(error):
                raise
        log.warning("a table is in use: the migration tries again")
        time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311


def asks_again(error: DBAPIError) -> bool:
    """Return True if the database has undone the transaction, and the same may succeed now."""
    return getattr(error.orig, "sqlstate", None) in AGAIN


def run() -> None:
    """Do what a command of Alembic asks for: migrations/env.py calls this."""
    connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


@contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other process of this host migrates."""
    with Path(_folder(), "lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _migrating() -> Iterator[Connection]:
    """Yield a connection in a transaction that gives up if it cannot lock a table within a second."""
    with current_app.extensions["database"].execution_options(write=True).connect() as connection:
        if connection.dialect.name == "sqlite":
            # Outside of a transaction: with foreign keys, the copy of a table deletes what refers to it.
            for pragma in ("journal_mode=WAL", "foreign_keys=OFF"):
                connection.connection.cursor().execute(f"PRAGMA {pragma}")
        try:
            with connection.begin():
                if connection.dialect.name == "postgresql":
                    connection.execute(text("SET LOCAL statement_timeout = 0"))
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
                    # Other queries of a table queue behind a lock that waits for it.
                    connection.execute(text("SET LOCAL lock_timeout = '1s'"))
                yield connection
        finally:
            connection.invalidate()


def _check_all(connection: Connection) -> None:
    """Raise MigrationError if this release, or one that runs now, cannot use what the schema is now."""
    if reasons := _unfit(connection, _needs()):
        raise MigrationError(f"the models ask for more than the migrations make: {reasons[0]} (`flask db revision`)")
    for path in _folder().glob("*.json"):
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # a process of that release lives
                if reasons := _unfit(connection, json.loads(file.read())):
                    raise MigrationError(
                        f"a release that runs now could not go on: {reasons[0]}. "
                        "Take away in one release what the one before it no longer uses"
                    ) from None


def _needs() -> Needs:
    """Return the tables and columns of the models."""
    tables = metadata.sorted_tables
    return sorted((str(table), sorted(column.name for column in table.columns)) for table in tables)


def _unfit(connection: Connection, needs: Needs) -> list[str]:
    """Return why a release cannot read and write its tables as they are."""
    inspector = inspect(connection)
    reasons = []
    for table, columns in needs:
        schema, _, name = table.rpartition(".")
        if not inspector.has_table(name, schema or None):
            reasons.append(f"there is no table {table}")
            continue
        there = {column["name"]: column for column in inspector.get_columns(name, schema or None)}
        reasons += [f"there is no {table}.{column}" for column in columns if column not in there]
        for column in there.values():
            filled = column["nullable"] or column["default"] or column.get("identity") or column.get("computed")
            if column["name"] not in columns and not filled:
                reasons.append(f"{table}.{column['name']} may not be null, and has no default")
    return reasons


def _current(connection: Connection) -> set[str]:
    return set(MigrationContext.configure(connection).get_current_heads())


def _known(scripts: ScriptDirectory, revisions: set[str]) -> bool:
    return revisions <= {script.revision for script in scripts.walk_revisions()}


def _config(connection: Connection) -> Config:
    config = Config(attributes={"connection": connection, "run": run})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    return config


def _folder() -> Path:
    folder = Path(current_app.config["STATE_DIRECTORY"], "database")
    folder.mkdir(0o700, exist_ok=True)
    return folder
