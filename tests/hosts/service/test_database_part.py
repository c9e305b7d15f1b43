"""The part `database` on a real host: migrations and the way back, under writes, in SQLite and in PostgreSQL."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.promises.words import NO_LOSS
from tests.support import packages
from tests.support.clone import make, quicken
from tests.support.front_door import Answer, ask
from tests.support.hosts import MakeHosts
from tests.support.site import Site

pytestmark = pytest.mark.long

# A table of names, and two routes. `EXTRA` is a column that a later release adds; `NAME` one that it takes away.
ENTRIES = """
from __future__ import annotations

from flask import Blueprint, Flask, request
from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column

from . import auth, database

pages = Blueprint("entries", __name__)


class Entry(database.Base):
    __tablename__ = "entries"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    EXTRA


def init_app(app: Flask) -> None:
    app.register_blueprint(pages)


@pages.post("/entries")
@auth.role(auth.OPEN)
def add() -> dict[str, object]:
    name = request.get_json()["name"]
    database.transaction(lambda session: session.add(Entry(name=name)))
    return {"name": name}


@pages.get("/entries")
@auth.role(auth.OPEN)
def entries() -> list[str]:
    with database.reading() as session:
        return list(session.scalars(select(Entry.name)))
"""
STEPS = {
    "0001": 'op.create_table("entries", sa.Column("id", sa.Integer, primary_key=True), '
    'sa.Column("name", sa.String, nullable=False, unique=True))',
    "0002": 'op.add_column("entries", sa.Column("colour", sa.String))\n'
    '    op.create_index("ix_entries_colour", "entries", ["colour"])',
    "0003": 'op.execute("ALTER TABLE entries RENAME COLUMN name TO title")',
}
WRITERS = 2
VERSIONS = "service/migrations/versions"


def step(revision: str, before: str | None) -> str:
    """Return the text of a migration."""
    head = f"import sqlalchemy as sa\nfrom alembic import op\n\nrevision = {revision!r}\ndown_revision = {before!r}\n"
    return f"{head}\n\ndef upgrade() -> None:\n    {STEPS[revision]}\n"


def release(site: Site, extra: str, *revisions: str) -> None:
    """Give the service this further column, and these migrations."""
    site.clone.write("service/app/entries.py", ENTRIES.replace("EXTRA", extra))
    for before, revision in zip((None, *revisions), revisions, strict=False):
        site.clone.write(f"{VERSIONS}/{revision}_step.py", step(revision, before))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Site:
    hosts = module_hosts()
    made = Site(make(tmp_path_factory.mktemp("database"), hosts.inventory), hosts[0])
    quicken(made.clone)
    made.clone.replace("service/service.yaml", "timeout: 30 ", "timeout: 15 ")
    made.clone.done("add", "database", "--yes")
    made.clone.replace("service/app/parts.py", "import database", "import database, entries")
    made.clone.replace("service/app/parts.py", "(database,)", "(database, entries)")
    release(made, "", "0001")
    if request.param == "postgresql":
        made.clone.replace(
            "service/service.yaml",
            "  GREETING:",
            "  DATABASE_URL: postgresql:///myapp?host=/run/postgresql\n  GREETING:",
        )
        packages.install(made.machine, *packages.lacking(made.machine, "postgresql"))
        made.sh(
            "systemctl start postgresql && until runuser -u postgres -- psql -c '' >/dev/null 2>&1; do sleep 0.1; done"
        )
        made.sh("cd / && runuser -u postgres -- createuser myapp && runuser -u postgres -- createdb -O myapp myapp")
    made.deploy()
    return made


def post(site: Site, name: str) -> Answer:
    """Add an entry."""
    body, headers = json.dumps({"name": name}).encode(), {"Content-Type": "application/json"}
    return ask(site.machine.address, "/entries", timeout=60, body=body, headers=headers)


@contextmanager
def writing(site: Site) -> Iterator[list[str]]:
    """Add entries all the time; yield the list of those that were acknowledged. Any other answer is a failure."""
    numbers, end = itertools.count(), threading.Event()
    kept: list[str] = []
    wrong: list[str] = []

    def work() -> None:
        while not end.wait(0.05):
            name = f"{id(kept)}-{next(numbers)}"
            try:
                answer = post(site, name)
            except OSError as error:
                wrong.append(f"{name}: {error!r}")
                continue
            if answer.status == 200:
                kept.append(name)
            else:
                wrong.append(f"{name}: {answer.status} {answer.body.decode()}")

    threads = [threading.Thread(target=work, daemon=True) for _ in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        yield kept
    finally:
        end.set()
        for thread in threads:
            thread.join()
    assert wrong == []


def entries(site: Site) -> list[str]:
    names: list[str] = ask(site.machine.address, "/entries").json()
    return names


@pytest.mark.promise(NO_LOSS, "a migration of a database, and the way back from it, under writes", part=1)
def test_a_migration_loses_nothing_and_takes_nothing_away(site: Site) -> None:
    with writing(site) as kept:
        _there_and_back(site)
        assert len(kept) > WRITERS
        _not_what_the_release_at_work_needs(site)
        _not_without_its_schema(site)
    there = entries(site)
    assert set(kept) <= set(there)
    assert len(there) == len(set(there))
    _back_by_a_backup(site, there)


def _there_and_back(site: Site) -> None:
    before = site.answering
    release(site, "colour: Mapped[str] = mapped_column(nullable=True)", "0001", "0002")
    site.deploy()
    site.done("rollback")
    assert site.answering == before
    site.done("deploy")
    site.done("restart")


def _not_what_the_release_at_work_needs(site: Site) -> None:
    was = site.answering
    model = site.read("service/app/entries.py").replace("name: Mapped", "title: Mapped")
    following = site.changed(f"{VERSIONS}/0003_step.py", step("0003", "0002"))
    with site.changed("service/app/entries.py", model), following:
        refused = site.fab("deploy")
    assert refused.status == 1
    assert "a release that runs now could not go on: there is no entries.name" in refused.both
    assert site.answering == was


def _not_without_its_schema(site: Site) -> None:
    was = site.answering
    text = site.read("service/service.yaml")
    hook = next(line for line in text.splitlines() if line.startswith("hooks:"))
    model = site.read("service/app/entries.py").replace("    name:", "    due: Mapped[int]\n    name:")
    without = site.changed("service/service.yaml", text.replace(hook, ""))
    with site.changed("service/app/entries.py", model), without:
        refused = site.fab("deploy")
    assert refused.status == 1
    assert "the database lacks what this release needs" in refused.both
    assert site.answering == was


def _back_by_a_backup(site: Site, there: list[str]) -> None:
    saved = site.done("backup", "--json").lines()[-1]["path"]
    for name in ("one", "two"):
        assert post(site, name).status == 200
        site.clone.done("restore", saved, "-H", site.machine.name, "--yes")
        assert sorted(entries(site)) == sorted(there)
