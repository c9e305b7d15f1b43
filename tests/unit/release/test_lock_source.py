"""`fab lock` from pyproject.toml, uv.lock and pylock.toml, with the real uv and distributions on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.engine.config.sections import Dependencies
from tasks.engine.errors import UsageError
from tasks.engine.release import lockfile as locks
from tasks.engine.release import relock
from tests.support import distributions

pytestmark = pytest.mark.usefixtures("forked_pip")
A, B, C = "a" * 64, "b" * 64, "c" * 64
PROJECT = """\
[project]
name = "shop"
version = "1.0"
requires-python = ">=3.9"
dependencies = ["low"]

[project.optional-dependencies]
Big_Data = ["top"]

[dependency-groups]
deploy = ["gunicorn"]
dev = ["nowhere"]
"""
UV = f"""\
version = 1
revision = 3
requires-python = ">=3.9"

[[package]]
name = "low"
version = "1.5"
source = {{ registry = "https://pypi.org/simple" }}
wheels = [
    {{ url = "https://files.example/low-1.5-py3-none-any.whl", hash = "sha256:{A}", size = 9 }},
]

[[package]]
name = "gunicorn"
version = "23.0"
source = {{ registry = "https://pypi.org/simple" }}
sdist = {{ url = "https://files.example/gunicorn-23.0.tar.gz", hash = "sha256:{C}", size = 9 }}
wheels = [
    {{ url = "https://files.example/gunicorn-23.0-py3-none-any.whl", hash = "sha256:{B}", size = 9 }},
]

[[package]]
name = "nowhere"
version = "1.0"
source = {{ registry = "https://pypi.org/simple" }}
sdist = {{ url = "https://files.example/nowhere-1.0.tar.gz", hash = "sha256:{C}", size = 9 }}

[[package]]
name = "top"
version = "1.0"
source = {{ registry = "https://pypi.org/simple" }}
sdist = {{ url = "https://files.example/top-1.0.tar.gz", hash = "sha256:{C}", size = 9 }}

[[package]]
name = "shop"
version = "1.0"
source = {{ virtual = "." }}
dependencies = [
    {{ name = "low" }},
]

[package.optional-dependencies]
big-data = [
    {{ name = "top" }},
]

[package.dev-dependencies]
deploy = [
    {{ name = "gunicorn" }},
]
dev = [
    {{ name = "nowhere" }},
]

[package.metadata]
requires-dist = [
    {{ name = "low" }},
    {{ name = "top", marker = "extra == 'big-data'" }},
]
provides-extras = ["big-data"]

[package.metadata.requires-dev]
deploy = [{{ name = "gunicorn" }}]
dev = [{{ name = "nowhere" }}]
"""
PYLOCK = f"""\
lock-version = "1.0"
created-by = "test"
requires-python = ">=3.9"
extras = ["big-data"]
dependency-groups = ["deploy", "dev"]
default-groups = ["deploy"]

[[packages]]
name = "low"
version = "1.5"
marker = "python_version >= '3.9'"
wheels = [{{ url = "https://files.example/low-1.5-py3-none-any.whl", hashes = {{ sha256 = "{A}" }} }}]

[[packages]]
name = "gunicorn"
version = "23.0"
marker = "'deploy' in dependency_groups and sys_platform != 'win32'"
sdist = {{ url = "https://files.example/gunicorn-23.0.tar.gz", hashes = {{ sha256 = "{C}" }} }}
wheels = [{{ url = "https://files.example/gunicorn-23.0-py3-none-any.whl", hashes = {{ sha256 = "{B}" }} }}]

[[packages]]
name = "top"
version = "1.0"
marker = "'big-data' in extras"
sdist = {{ url = "https://files.example/top-1.0.tar.gz", hashes = {{ sha256 = "{C}" }} }}

[[packages]]
name = "shop"
directory = {{ path = ".", editable = true }}
"""
DEPLOY, BIG = Dependencies((), ("deploy",)), Dependencies(("big.DATA",), ("Deploy",))


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty service/, and an index that has `top`, `low` and gunicorn."""
    links = tmp_path / "links"
    links.mkdir()
    distributions.isolate(monkeypatch, links)
    for name in ("top", "low", "gunicorn"):
        distributions.wheel(links, name, "1.0")
    (tmp_path / "root/service").mkdir(parents=True)
    return tmp_path / "root/service"


def lock(service: Path, wanted: Dependencies, python: str = ">=3.9") -> dict[str, str]:
    """Make the lock; return the version of each package that Linux gets, as a deploy reads it."""
    from tasks.engine.release.python_target import Target, select

    relock.make(service.parent, python, wanted)
    target = Target("3.12.1", "cp312", "x86_64", ("glibc", 2, 36))
    return {entry.name: entry.version for entry in select(locks.read(service / "requirements.txt", wanted), target)}


def hashes(service: Path, wanted: Dependencies) -> dict[str, tuple[str, ...]]:
    return {entry.name: entry.hashes for entry in locks.read(service / "requirements.txt", wanted).entries}


def stale(service: Path, wanted: Dependencies) -> str:
    """Return the message for a lock that is not read any more."""
    with pytest.raises(UsageError) as caught:
        locks.read(service / "requirements.txt", wanted)
    assert (caught.value.where, caught.value.next) == ("service/requirements.txt", "fab lock")
    return caught.value.message


def test_pyproject_alone_is_locked_with_the_extras_and_groups_that_are_named(service: Path) -> None:
    (service / "pyproject.toml").write_text(PROJECT)
    assert lock(service, DEPLOY) == {"gunicorn": "1.0", "low": "1.0"}
    assert lock(service, BIG) == {"gunicorn": "1.0", "low": "1.0", "top": "1.0"}
    assert (service / "requirements.txt").read_text().startswith("# Made by `fab lock` from pyproject.toml;")
    assert "`dependencies` of service.yaml" in stale(service, DEPLOY)


def test_requirements_in_adds_to_pyproject(service: Path) -> None:
    (service / "pyproject.toml").write_text(PROJECT)
    (service / "requirements.in").write_text("gunicorn\n")
    assert lock(service, Dependencies()) == {"gunicorn": "1.0", "low": "1.0"}


def test_a_dependency_that_is_a_directory_is_refused_with_a_way(service: Path) -> None:
    (service / "libs/low").mkdir(parents=True)
    library = '[project]\nname = "low"\nversion = "1.0"\n[build-system]\nrequires = []\nbuild-backend = "none"\n'
    (service / "libs/low/pyproject.toml").write_text(library)
    (service / "pyproject.toml").write_text(f'{PROJECT}\n[tool.uv.sources]\nlow = {{ path = "libs/low" }}\n')
    with pytest.raises(UsageError, match=r"leads to a directory, which a lock cannot hold: .*libs/low") as caught:
        relock.make(service.parent, ">=3.9")
    assert caught.value.where == "service/pyproject.toml"
    assert "`pythonpath`" in str(caught.value.next)


@pytest.mark.parametrize("name", ["pyproject.toml", "uv.lock", "pylock.toml"])
def test_a_requirements_txt_that_fab_lock_did_not_make_is_not_replaced(service: Path, name: str) -> None:
    texts = {"pyproject.toml": PROJECT, "uv.lock": UV, "pylock.toml": PYLOCK}
    for other in {"pyproject.toml", name}:
        (service / other).write_text(texts[other])
    (service / "requirements.txt").write_text("flask\n")
    with pytest.raises(UsageError, match="fab lock did not make this file") as caught:
        relock.make(service.parent, ">=3.9")
    assert "git mv service/requirements.txt service/requirements.in" in str(caught.value.next)
    assert (service / "requirements.txt").read_text() == "flask\n"


@pytest.mark.parametrize("line", [".", "-e .", ".[big-data]", "./service", "-e ./service[x]"])
def test_the_project_itself_in_requirements_in_needs_no_line(service: Path, line: str) -> None:
    (service / "pyproject.toml").write_text(PROJECT)
    (service / "requirements.in").write_text(f"gunicorn\n{line}\n")
    with pytest.raises(UsageError, match="the project itself") as caught:
        relock.make(service.parent, ">=3.9")
    assert caught.value.where == "service/requirements.in:2:1"
    assert "remove the line: `fab lock` reads pyproject.toml itself" in str(caught.value.next)


def test_only_what_a_lock_depends_on_makes_it_stale(service: Path) -> None:
    path = service / "pyproject.toml"
    path.write_text(PROJECT)
    lock(service, DEPLOY)
    path.write_text(PROJECT.replace("1.0", "2.0") + "\n[tool.ruff]\nline-length = 9\n")
    assert locks.read(service / "requirements.txt", DEPLOY).entries
    path.write_text(PROJECT.replace('"low"', '"low<2"'))
    assert "pyproject.toml" in stale(service, DEPLOY)


def test_a_pyproject_for_tools_alone_changes_nothing(service: Path) -> None:
    (service / "requirements.in").write_text("low\n")
    lock(service, Dependencies())
    (service / "pyproject.toml").write_text("[tool.ruff]\nline-length = 9\n")
    assert locks.read(service / "requirements.txt").entries


def test_the_versions_and_hashes_of_uv_lock_are_taken_without_an_index(service: Path) -> None:
    (service / "pyproject.toml").write_text(PROJECT)
    (service / "uv.lock").write_text(UV)
    assert lock(service, DEPLOY) == {"gunicorn": "23.0", "low": "1.5"}
    assert hashes(service, DEPLOY) == {"gunicorn": (B, C), "low": (A,)}
    assert lock(service, BIG) == {"gunicorn": "23.0", "low": "1.5", "top": "1.0"}
    (service / "uv.lock").write_text(UV.replace("1.5", "1.6"))
    assert "uv.lock" in stale(service, BIG)
    assert lock(service, BIG)["low"] == "1.6"
    (service / "pyproject.toml").write_text(PROJECT.replace('"low"', '"low<1"'))
    with pytest.raises(UsageError, match=r"could not read uv\.lock; run uv lock if pyproject\.toml has changed"):
        lock(service, BIG)
    with pytest.raises(UsageError, match=r"the versions are those of uv\.lock") as caught:
        relock.make(service.parent, ">=3.9", DEPLOY, packages=["low"])
    assert caught.value.next == "uv lock --upgrade-package low, then: fab lock"


def test_the_versions_and_hashes_of_pylock_toml_are_taken(service: Path) -> None:
    (service / "pylock.toml").write_text(PYLOCK)
    assert lock(service, Dependencies()) == {"gunicorn": "23.0", "low": "1.5"}
    assert hashes(service, Dependencies())["gunicorn"] == (B, C)
    assert lock(service, Dependencies(("big-data",), ("dev",))) == {"low": "1.5", "top": "1.0"}
    assert lock(service, BIG) == {"gunicorn": "23.0", "low": "1.5", "top": "1.0"}
    (service / "pylock.toml").write_text(PYLOCK.replace('"1.5"', '"1.6"'))
    assert "pylock.toml" in stale(service, BIG)


@pytest.mark.parametrize(
    ("files", "message", "where", "remedy"),
    [
        ({"requirements.in": "low\n", "uv.lock": UV, "pyproject.toml": PROJECT}, "requirements.in and uv.lock both say",
         "service/uv.lock", "keep one"),
        ({"uv.lock": UV, "pylock.toml": PYLOCK}, "uv.lock and pylock.toml both say", "service/pylock.toml", "keep one"),
        ({"uv.lock": UV}, "no project beside it", "service/uv.lock", "pyproject.toml"),
        ({"requirements.in": "low\n"}, "no extras and no groups", "service/service.yaml (dependencies)", "remove"),
        ({"pyproject.toml": PROJECT.replace("deploy", "deplyo")}, "defines no group deploy; it has deplyo, dev",
         "service/service.yaml (dependencies.groups)", "did you mean deplyo?"),
        ({"pyproject.toml": PROJECT.replace("Big_Data", "x")}, "pyproject.toml defines no extra big-data; it has x",
         "service/service.yaml (dependencies.extras)", "define it in service/pyproject.toml"),
        ({"pyproject.toml": PROJECT.replace("3.9", "3.12")}, "requires Python >=3.12, and service.yaml allows 3.9",
         "service/service.yaml (python)", 'set `python: ">=3.12"`'),
        ({"pyproject.toml": "[project\n"}, "cannot be read as TOML", "service/pyproject.toml", "correct"),
        ({"pylock.toml": PYLOCK.replace('extras = ["big-data"]', "")}, "defines no extra big-data; it has none",
         "service/service.yaml (dependencies.extras)", "service/pylock.toml"),
        ({"pylock.toml": PYLOCK.replace("3.9\"\n", "3.13\"\n", 1)}, "pylock.toml requires Python",
         "service/service.yaml (python)", "python"),
        ({"pylock.toml": PYLOCK.replace('"1.0"\ncreated-by', '"9.0"\ncreated-by')}, "it is no pylock.toml",
         "service/pylock.toml", "make it anew"),
        ({"pylock.toml": PYLOCK.replace('path = "."', 'path = "libs/low"')}, "cannot hold a directory: libs/low",
         "service/pylock.toml (shop)", "pythonpath"),
        ({"pylock.toml": PYLOCK.replace("sha256", "sha512")}, "no file with a sha256 hash", "service/pylock.toml",
         "hashes"),
    ],
)  # fmt: skip
def test_what_cannot_be_locked_is_refused_with_a_way(
    service: Path, files: dict[str, str], message: str, where: str, remedy: str
) -> None:
    for name, text in files.items():
        (service / name).write_text(text)
    with pytest.raises(UsageError) as caught:
        relock.make(service.parent, ">=3.9", BIG)
    assert message in caught.value.message
    assert caught.value.where == where
    assert remedy in str(caught.value.next)
    assert not (service / "requirements.txt").exists()


def test_a_lock_made_from_another_file_is_stale(service: Path) -> None:
    (service / "requirements.in").write_text("low\n")
    lock(service, Dependencies())
    (service / "requirements.in").rename(service / "pylock.toml")
    (service / "pylock.toml").write_text(PYLOCK)
    message = "the lock was made from requirements.in, and there is pylock.toml now"
    assert stale(service, Dependencies()) == message
