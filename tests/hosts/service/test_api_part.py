"""The part `api` alone in a clone: its own tests, and requests that schemathesis makes of its document."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.clone import ROOT, Clone, make
from tests.support.git_repository import git

# Tests of the API, in process, by its own document. They run in a venv of their own: schemathesis is a pytest plugin.
REQUESTS = """
import schemathesis
from hypothesis import settings
from schemathesis.config import SchemathesisConfig

from service.app import create_app, store

app = create_app()
token = app.test_cli_runner().invoke(args=["token", "create", "me", "--role", "admin"]).stdout.strip()
checks = {  # a valid request for a note that is not there, or that has changed
    "positive_data_acceptance": {"expected-statuses": ["2xx", "404", "412"]},
    "missing_required_header": {"expected-statuses": ["404", "428"]},
}
config = SchemathesisConfig.from_dict({"auth": {"openapi": {"token": {"bearer": token}}}, "checks": checks})
headers = {"Authorization": f"Bearer {token}"}
schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", app, config=config, headers=headers)
bounds = settings(max_examples=10, deadline=None, stateful_step_count=8, database=None)


def forget_keys(case):
    # One that came with another request is refused, as it should be, but is valid by itself.
    if case.method != "POST":
        return
    with app.app_context(), store.writing() as connection:
        connection.execute("DELETE FROM answers")


@schema.parametrize()
@bounds
def test_each_operation(case):
    forget_keys(case)
    case.call_and_validate()


class Machine(schema.as_state_machine()):
    def before_call(self, case):
        forget_keys(case)


TestOneAfterAnother = Machine.TestCase
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


def requests(tried: tuple[Clone, Path], state: Path, seed: int) -> subprocess.CompletedProcess[str]:
    """Run schemathesis on the service of the clone."""
    clone, python = tried
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--hypothesis-seed={seed}", "test_requests.py"]
    variables = {**os.environ, "STATE_DIRECTORY": str(state)}
    return subprocess.run([python, *words], cwd=clone.root, env=variables, capture_output=True, text=True)


@pytest.mark.promise("An API does what its document says", "requests made up from it, valid and not", part=1)
@pytest.mark.parametrize("seed", range(20))
def test_schemathesis_finds_nothing(tried: tuple[Clone, Path], seed: int, tmp_path: Path) -> None:
    ended = requests(tried, tmp_path, seed)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_schemathesis_finds_a_value_that_the_document_excludes(tried: tuple[Clone, Path], tmp_path: Path) -> None:
    clone, _ = tried
    clone.replace("service/app/versions.py", "strict=True", "strict=False")
    try:
        ended = requests(tried, tmp_path, seed=0)
    finally:
        clone.replace("service/app/versions.py", "strict=False", "strict=True")
    assert ended.returncode == 1
    assert "Schema-violating request accepted" in ended.stdout
