from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask
from hypothesis import HealthCheck, given
from hypothesis import settings as tries
from hypothesis import strategies as st
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table, func, insert, select, update
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from service.app import create_app, database, migrations

MakeRelease = Callable[..., Flask]

FIRST = 'op.create_table("shifts", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(20)))'
SAMPLE = Path(migrations.FOLDER)


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeRelease:
    """Return a function that starts a release with these columns of `shifts`, and with these migrations."""

    def make(columns: str, *steps: str) -> Flask:
        folder = tmp_path / "migrations"
        for number, step in enumerate(steps, start=1):
            versions = folder / "versions"
            versions.mkdir(parents=True, exist_ok=True)
            before = f'"{number - 1:04}"' if number > 1 else None
            (versions / f"{number:04}.py").write_text(
                f"import sqlalchemy as sa\nfrom alembic import op\nrevision = '{number:04}'\ndown_revision = {before}\n"
                f"def upgrade():\n    {step}\n"
            )
        for path in folder.glob("versions/*.py"):
            if int(path.stem) > len(steps):
                path.unlink()  # of a later release
        for path in SAMPLE.glob("*.*"):
            (folder / path.name).write_bytes(path.read_bytes())
        metadata = MetaData()
        Table("shifts", metadata, *(Column(name, Integer, primary_key=name == "id") for name in columns.split()))
        monkeypatch.setattr(migrations, "metadata", metadata)
        monkeypatch.setattr(migrations, "FOLDER", folder)
        return create_app()

    return make


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "_held", {})


def ready(app: Flask) -> int:
    return app.test_client().get("/readyz").status_code


def upgraded(app: Flask) -> tuple[int, str]:
    ended = app.test_cli_runner().invoke(args=["db", "upgrade"])
    return ended.exit_code, ended.output


def columns(app: Flask) -> list[str]:
    with app.app_context(), database.engine().connect() as connection:
        return [row[1] for row in connection.exec_driver_sql("PRAGMA table_info(shifts)")]


def test_without_models_it_is_ready_and_an_upgrade_changes_nothing(app: Flask) -> None:
    assert ready(app) == 200
    assert [upgraded(app)[0] for _ in range(2)] == [0, 0]


def test_a_start_brings_the_schema_of_sqlite(release: MakeRelease) -> None:
    app = release("id name", FIRST)
    assert (ready(app), columns(app)) == (200, ["id", "name"])


def test_what_is_written_can_be_read(release: MakeRelease) -> None:
    app = release("id name", FIRST)
    shifts = migrations.metadata.tables["shifts"]
    with app.app_context():
        assert database.transaction(lambda session: session.execute(insert(shifts).values(name=7))) is not None
        with database.reading() as session:
            assert session.scalar(select(shifts.c.name)) == "7"


def test_the_former_release_goes_on_and_is_ready_on_the_schema_of_the_next(release: MakeRelease) -> None:
    next_step = 'op.add_column("shifts", sa.Column("colour", sa.String(9)))'
    former = release("id name", FIRST)
    assert ready(release("id name colour", FIRST, next_step)) == 200
    assert ready(former) == 200
    rolled_back = release("id name", FIRST)
    assert (ready(rolled_back), upgraded(rolled_back)[0]) == (200, 0)
    assert columns(rolled_back) == ["id", "name", "colour"]


@pytest.mark.parametrize(
    ("wanted", "step", "reason"),
    [
        ("id", 'op.drop_column("shifts", "name")', "there is no shifts.name"),
        ("id title", 'op.alter_column("shifts", "name", new_column_name="title")', "there is no shifts.name"),
        ("id name due", 'op.execute("ALTER TABLE shifts ADD due INTEGER NOT NULL DEFAULT 1")', ""),
        ("id name due", 'exec("with op.batch_alter_table(\'shifts\') as t: '
         't.add_column(sa.Column(\'due\', sa.Integer, nullable=False))")', "shifts.due may not be null"),
    ],
)  # fmt: skip
def test_what_a_running_release_needs_is_not_taken_away(
    release: MakeRelease, wanted: str, step: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = columns(release("id name", FIRST))
    following = release(wanted, FIRST, step)
    status, said = upgraded(following)
    if not reason:
        assert (status, ready(following)) == (0, 200)
        return
    assert status == 1
    assert f"a release that runs now could not go on: {reason}" in said
    assert (columns(following), ready(following)) == (before, 503)
    for descriptor in migrations._held.values():
        migrations.os.close(descriptor)
    monkeypatch.setattr(migrations, "_held", {})
    assert ready(release(wanted, FIRST, step)) == 200


def test_a_model_without_a_migration_is_refused(release: MakeRelease) -> None:
    app = release("id name colour", FIRST)
    assert ready(app) == 503
    status, said = upgraded(app)
    assert (status, "there is no shifts.colour" in said) == (1, True)


def test_a_release_whose_schema_the_database_lacks_is_not_ready(
    release: MakeRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "upgrade", lambda: None)
    app = release("id name", FIRST)
    answer = app.test_client().get("/readyz")
    assert answer.status_code == 503
    (check,) = [check for check in answer.json["checks"] if check["name"] == "database"]  # type: ignore[index]
    assert "lacks what this release needs" in check["error"]
    monkeypatch.undo()


def test_a_migration_that_fails_leaves_nothing(release: MakeRelease) -> None:
    release("id name", FIRST)
    app = release("id name due", FIRST, 'op.execute("ALTER TABLE shifts ADD due"); op.execute("wrong")')
    assert (ready(app), columns(app)) == (503, ["id", "name"])


def test_the_copy_of_a_table_keeps_the_rows_that_refer_to_it(release: MakeRelease) -> None:
    child = 'op.execute("CREATE TABLE crew (shift INTEGER REFERENCES shifts(id) ON DELETE CASCADE)")'
    copy = (
        "exec(\"with op.batch_alter_table('shifts', recreate='always') as t: t.alter_column('name', nullable=True)\")"
    )
    app = release("id name", FIRST, child)
    with app.app_context(), database.engine().begin() as connection:
        connection.exec_driver_sql("INSERT INTO shifts VALUES (1, 'a')")
        connection.exec_driver_sql("INSERT INTO crew VALUES (1)")
    app = release("id name", FIRST, child, copy)
    with app.app_context(), database.engine().connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM crew").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_revision_writes_what_leads_to_the_models(release: MakeRelease, tmp_path: Path) -> None:
    app = release("id name", FIRST)
    metadata = migrations.metadata
    Table("crew", metadata, Column("id", Integer, primary_key=True), Column("shift", ForeignKey("shifts.id")))
    metadata.tables["shifts"].append_column(Column("colour", String))
    metadata.tables["shifts"].c.name.type = String(20)
    ended = app.test_cli_runner().invoke(args=["db", "revision", "add crew"])
    assert ended.exit_code == 0, ended.output
    (written,) = tmp_path.glob("migrations/versions/*_add_crew.py")
    assert written.read_text().startswith('"""add crew."""\n')
    assert upgraded(app)[0] == 0
    assert (ready(create_app()), columns(app)) == (200, ["id", "name", "colour"])


def test_workers_that_start_at_once_migrate_once(state: Path) -> None:
    code = "from service.app import create_app; import sys; sys.exit(create_app().test_client().get('/readyz').status)"
    code = code.replace("sys.exit(", "sys.exit('200' not in ")
    root = Path(__file__).parents[2]
    workers = [subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [one.wait() for one in workers] == [0] * 4
    assert (state / "database.sqlite").exists()


@pytest.fixture
def counter(release: MakeRelease) -> Flask:
    """A release whose table has one row, with 0 in it."""
    app = release("id name", FIRST)
    with app.app_context():
        shifts = migrations.metadata.tables["shifts"]
        database.transaction(lambda session: session.execute(insert(shifts).values(id=1, name=0)))
    return app


def add_one(session: Session) -> None:
    shifts = migrations.metadata.tables["shifts"]
    number = int(session.scalars(select(shifts.c.name)).one())
    session.execute(update(shifts).values(name=number + 1))


def value(app: Flask) -> int:
    with app.app_context(), database.reading() as session:
        return int(session.scalars(select(func.max(migrations.metadata.tables["shifts"].c.name))).one())


def test_writers_at_once_lose_nothing(counter: Flask) -> None:
    def work() -> None:
        with counter.app_context():
            for _ in range(25):
                database.transaction(add_one)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(counter) == 100


class Undone(Exception):
    """An error of PostgreSQL."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__()
        self.sqlstate = sqlstate


@tries(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["40001", "40P01", "lost"]), max_size=3))
def test_a_transaction_that_the_database_undid_is_run_again(counter: Flask, errors: list[str]) -> None:
    before, left = value(counter), list(errors)

    def work(session: Session) -> None:
        add_one(session)
        if left:
            state = left.pop()
            raise DBAPIError("", {}, Undone(state), connection_invalidated=state == "lost")

    with counter.app_context():
        database.transaction(work)
    assert value(counter) == before + 1


@pytest.mark.parametrize(("sqlstate", "runs"), [("23505", 1), ("40001", database.ATTEMPTS)])
def test_another_error_is_not_tried_again_and_none_without_end(counter: Flask, sqlstate: str, runs: int) -> None:
    seen: list[str] = []

    def work(session: Session) -> None:
        seen.append(sqlstate)
        add_one(session)
        raise DBAPIError("", {}, Undone(sqlstate))

    with counter.app_context(), pytest.raises(DBAPIError):
        database.transaction(work)
    assert (len(seen), value(counter)) == (runs, 0)


def test_a_commit_whose_outcome_is_not_known_is_not_tried_again(
    counter: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_session: Session) -> None:
        raise OperationalError("", {}, Exception(), connection_invalidated=True)

    monkeypatch.setattr(Session, "commit", lost)
    with counter.app_context(), pytest.raises(OperationalError):
        database.transaction(add_one)
    assert value(counter) == 0


def test_a_database_that_is_down_is_503_and_does_not_end_a_release(counter: Flask, state: Path) -> None:
    @counter.get("/value")
    def read() -> str:
        return str(value(counter))

    client = counter.test_client()
    token = counter.test_cli_runner().invoke(args=["token", "create", "me", "--role", "admin"]).stdout.strip()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    assert (client.get("/value").text, client.get("/readyz").status_code) == ("0", 200)
    with counter.app_context():
        database.engine().dispose()
    for path in state.glob("database.sqlite*"):
        path.unlink()
    (state / "database.sqlite").mkdir()
    answer = client.get("/value")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json["detail"] == "the database does not answer"  # type: ignore[index]
    assert client.get("/readyz").status_code == 200
    assert ready(create_app()) == 503


@pytest.mark.usefixtures("counter")
def test_a_pool_without_a_free_connection_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_POOL", "1")
    monkeypatch.setenv("REQUEST_TIMEOUT", "6")
    app = create_app()
    app.config["TESTING"] = False
    app.add_url_rule("/value", view_func=lambda: str(value(app)))
    with app.app_context():
        monkeypatch.setattr(database.engine().pool, "_timeout", 0.01)
        with closing(database.engine().connect()):
            assert app.test_client().get("/value").status_code == 401
            token = app.test_cli_runner().invoke(args=["token", "create", "me", "--role", "admin"]).stdout.strip()
            headers = {"Authorization": f"Bearer {token}"}
            assert app.test_client().get("/value", headers=headers).status_code == 503
    assert app.test_client().get("/value", headers=headers).status_code == 200


@pytest.mark.parametrize("url", ["s3cret", "mysql://me:s3cret@db/app", "oracle://me:s3cret@db"])
def test_another_url_stops_the_start_with_a_line_that_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(SystemExit):
        create_app()
    said = capfd.readouterr().out
    assert "DATABASE_URL" in said
    assert "s3cret" not in said


@pytest.mark.parametrize("url", ["postgresql://db.invalid/x", "postgres:///x?host=/nowhere", "postgresql+psycopg://db"])
def test_postgresql_is_not_asked_before_it_is_needed(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    app = create_app()
    with app.app_context():
        assert database.engine().dialect.driver == "psycopg"
