"""The part `api` alone in a clone: its own tests, and requests that schemathesis makes of its document."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clone import ROOT, Clone, make
from tests.support.git_repository import git

pytestmark = pytest.mark.packages

# A second version beside the first, which is to go: other names, an enumeration in the query and in the body.
TASKS = """
from datetime import datetime, timezone
from enum import Enum

from pydantic import Field
from werkzeug.exceptions import NotFound

from . import notes, store
from .versions import Model, Version

v1 = Version("v1", deprecated=datetime(2027, 1, 1, tzinfo=timezone.utc), successor="v2")
for one in notes.v1.operations:
    v1.operation(one.method, one.rule, role=one.role, status=one.status, if_match=one.if_match)(one.view)
v2 = Version("v2")


class State(str, Enum):
    OPEN = "open"
    DONE = "done"


class NewTask(Model):
    title: str = Field(min_length=1, max_length=9)
    state: State = State.OPEN


class Task(NewTask):
    number: int


class Tasks(Model):
    items: list[Task]


class Wanted(Model):
    state: State


@v2.operation("GET", "/tasks", role="reader")
def list_tasks(query: Wanted) -> Tasks:
    rows = store.opened().execute("SELECT text, number FROM notes WHERE done = ?", (query.state is State.DONE,))
    return Tasks(items=[Task(title=text, number=number, state=query.state) for text, number in rows])


@v2.operation("POST", "/tasks", role="operator", status=201)
def create_task(body: NewTask) -> Task:
    values = (body.title, body.state is State.DONE)
    written = store.opened().execute("INSERT INTO notes (text, done) VALUES (?, ?)", values)
    return Task(title=body.title, state=body.state, number=written.lastrowid)


@v2.operation("GET", "/tasks/<int:number>", role="reader")
def read_task(number: notes.Number) -> Task:
    row = store.opened().execute("SELECT text, done FROM notes WHERE number = ?", (number,)).fetchone()
    if row is None:
        raise NotFound
    return Task(title=row[0], state=State.DONE if row[1] else State.OPEN, number=number)
"""

# Tests of a version, in process, by its own document. They run in a venv of their own: schemathesis is a pytest plugin.
REQUESTS = """
import os

import schemathesis
from hypothesis import settings
from schemathesis.config import SchemathesisConfig

from service.app import create_app, store

store.KEPT = -1  # so no key came before: one that came with another request is refused, but is valid by itself
app = create_app()
token = app.test_cli_runner().invoke(args=["token", "create", "me", "--role", "admin"]).stdout.strip()
checks = {  # a valid request for a note that is not there, or that has changed
    "positive_data_acceptance": {"expected-statuses": ["2xx", "404", "412"]},
    "missing_required_header": {"expected-statuses": ["404", "428"]},
}
config = SchemathesisConfig.from_dict({"auth": {"openapi": {"token": {"bearer": token}}}, "checks": checks})
headers = {"Authorization": f"Bearer {token}"}
schema = schemathesis.openapi.from_wsgi(os.environ["DOCUMENT"], app, config=config, headers=headers)
bounds = settings(max_examples=10, deadline=None, stateful_step_count=8, database=None)


@schema.parametrize()
@bounds
def test_each_operation(case):
    case.call_and_validate()


TestOneAfterAnother = schema.as_state_machine().TestCase
TestOneAfterAnother.settings = bounds
"""


def done(clone: Clone, *words: str | Path) -> str:
    """Run a command in the clone, which must succeed, and return what it says."""
    ended = subprocess.run(words, cwd=clone.root, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def install(clone: Clone, python: Path, *words: str) -> None:
    done(clone, sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python, *words)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, Path]:
    """A clone with this part alone, and the Python of a venv that has its lock, pytest and hypothesis."""
    folder = tmp_path_factory.mktemp("api")
    clone = make(folder)
    clone.done("add", "api", "--yes")
    clone.write("pyproject.toml", (ROOT / "pyproject.toml").read_text())
    done(clone, sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, folder / "venv")
    python = folder / "venv/bin/python"
    install(clone, python, "--require-hashes", "-r", "service/requirements.txt")
    install(clone, python, "pytest", "hypothesis")
    return clone, python


@pytest.fixture(scope="module")
def tried(alone: tuple[Clone, Path]) -> tuple[Clone, Path]:
    """The same with schemathesis."""
    clone, python = alone
    install(clone, python, "schemathesis>=4.32,<5")
    clone.write("test_requests.py", REQUESTS)
    return clone, python


def test_its_own_tests_pass_without_another_part_and_git_takes_it_out(
    alone: tuple[Clone, Path], tmp_path: Path
) -> None:
    clone, python = alone
    files = [f"service/tests/test_{module}.py" for module in ("api", "auth", "about", "health")]
    done(clone, python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files)
    out = make(tmp_path)
    out.done("add", "api", "--yes")
    git(out.root, "checkout", "-q", "service")
    git(out.root, "clean", "-qfd", "service")
    assert done(out, "git", "status", "--porcelain") == ""


def requests(
    tried: tuple[Clone, Path], state: Path, seed: int, version: str = "v1"
) -> subprocess.CompletedProcess[str]:
    """Run schemathesis on a version of the API of the clone."""
    clone, python = tried
    words = ["-m", "pytest", "-qx", "-p", "no:cacheprovider", f"--hypothesis-seed={seed}", "test_requests.py"]
    variables = {**os.environ, "STATE_DIRECTORY": str(state), "DOCUMENT": f"/api/{version}/openapi.json"}
    return subprocess.run([python, *words], cwd=clone.root, env=variables, capture_output=True, text=True)


@pytest.mark.promise("An API does what its document says", "requests made up from it, valid and not", part=1)
@pytest.mark.parametrize("seed", range(20))
def test_schemathesis_finds_nothing(tried: tuple[Clone, Path], seed: int, tmp_path: Path) -> None:
    ended = requests(tried, tmp_path, seed)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture
def two(tried: tuple[Clone, Path]) -> Iterator[tuple[Clone, Path]]:
    """The same with two versions."""
    clone, _ = tried
    before = (clone.root / "service/app/api.py").read_text()
    clone.write("service/app/tasks.py", TASKS)
    clone.replace("service/app/api.py", "(notes.v1,)", "(tasks.v1, tasks.v2)")
    clone.replace("service/app/api.py", "import notes", "import tasks")
    yield tried
    clone.write("service/app/api.py", before)


@pytest.mark.promise("An API does what its document says", "requests made up from two versions side by side", part=1)
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_schemathesis_finds_nothing_in_two_versions_side_by_side(
    two: tuple[Clone, Path], version: str, tmp_path: Path
) -> None:
    ended = requests(two, tmp_path, 1, version)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "passed" in ended.stdout


def test_schemathesis_finds_a_value_that_the_document_excludes(tried: tuple[Clone, Path], tmp_path: Path) -> None:
    clone, _ = tried
    clone.replace("service/app/versions.py", "strict=True", "strict=False")
    try:
        ended = requests(tried, tmp_path, seed=0)
    finally:
        clone.replace("service/app/versions.py", "strict=False", "strict=True")
    assert ended.returncode == 1
    assert "Schema-violating request accepted" in ended.stdout
