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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import current_app
from flask.cli import AppGroup
from sqlalchemy import Connection, MetaData, inspect
from sqlalchemy.orm import Session

FOLDER = Path(__file__).parents[1] / "migrations"

# For PostgreSQL. The second line: of two hosts that migrate one database, one waits.
# The third: a migration that waits for a table holds up all other queries of it, so it gives up after a second.
BEFORE = (
    "SET LOCAL statement_timeout = 0",
    "SELECT pg_advisory_xact_lock(7206140017)",
    "SET LOCAL lock_timeout = '1s'",
)

# By its name a later migration finds a constraint.
NAMES = {"ix": "ix_%(column_0_label)s", "uq": "uq_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s",
         "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s"}  # fmt: skip
metadata = MetaData(naming_convention=NAMES)

log = logging.getLogger("migrations")

commands = AppGroup("db", help="Migrate the database.")

_held: dict[Path, int] = {}  # files that say what this process needs of the database, each open and locked

Needs = dict[str, list[str]]  # the columns of each table


class MigrationError(click.ClickException):
    """The schema stays as it is."""


@commands.command("revision")
@click.argument("message")
def _revision(message: str) -> None:
    """Write the migration from the database, which must be up to date, to the models."""
    with current_app.extensions["database"].connect() as connection:
        command.revision(_config(connection), message, autogenerate=True)


def announce() -> None:
    """Say to the upgrades of other releases, as long as this process lives, what it needs of the database."""
    content = json.dumps(_needs()).encode()
    path = _folder() / f"{hashlib.sha256(content).hexdigest()[:16]}.json"
    if path not in _held:
        _held[path] = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(_held[path], content, 0)  # the name is the digest: what is there is the same
        fcntl.flock(_held[path], fcntl.LOCK_SH)


def lacking(connection: Connection) -> list[str]:
    """Return what this release needs and the schema has not. A schema of a later release may have all of it."""
    current, wanted, known = _revisions(connection)
    if known and current != wanted:
        there, must = (", ".join(sorted(some)) or "none" for some in (current, wanted))
        return [f"its schema is {there}, and must be {must}: run `flask db upgrade`"]
    return _unfit(connection, _needs())


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other process of this host migrates."""
    with (_folder() / "lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def migrate(session: Session) -> None:
    """Bring the schema to that of this release, or raise MigrationError. A schema of a later release stays."""
    connection = session.connection()
    for statement in BEFORE if connection.dialect.name == "postgresql" else ():
        connection.exec_driver_sql(statement)
    before, wanted, known = _revisions(connection)
    if not known:
        log.warning("the schema is that of a later release, and stays")
    elif before != wanted:
        log.info("migrating to %s", ", ".join(sorted(wanted)))
        command.upgrade(_config(connection), "heads")
    if reasons := _unfit(connection, _needs()):
        raise MigrationError(f"the models ask for more than the migrations make: {reasons[0]} (`flask db revision`)")
    for needs in _at_work():
        if reasons := _unfit(connection, needs):
            way = "Take away in one release what the one before it no longer uses"
            raise MigrationError(f"a release that runs now could not go on: {reasons[0]}. {way}")


def _revisions(connection: Connection) -> tuple[set[str], set[str], bool]:
    """Return the revisions of the schema, those of this release, and whether it knows the former."""
    scripts = ScriptDirectory(str(FOLDER))
    current = set(MigrationContext.configure(connection).get_current_heads())
    return current, set(scripts.get_heads()), current <= {script.revision for script in scripts.walk_revisions()}


def _config(connection: Connection) -> Config:
    """Return what Alembic's commands, and migrations/env.py, are to know. SQLite alters a table by its copy (batch)."""
    config = Config(attributes={"connection": connection, "target_metadata": metadata, "render_as_batch": True})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    return config


def _at_work() -> Iterator[Needs]:
    """Yield what the releases that run now need."""
    for path in _folder().glob("*.json"):
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # a process of that release lives
                yield json.load(file)


def _needs() -> Needs:
    """Return the tables and columns of the models."""
    return {str(table): sorted(column.name for column in table.columns) for table in metadata.sorted_tables}


def _unfit(connection: Connection, needs: Needs) -> list[str]:
    """Return why a release cannot read and write its tables as they are."""
    inspector = inspect(connection)
    reasons = []
    for table, columns in needs.items():
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


def _folder() -> Path:
    folder = Path(current_app.config["STATE_DIRECTORY"], "database")
    folder.mkdir(0o700, exist_ok=True)
    return folder
