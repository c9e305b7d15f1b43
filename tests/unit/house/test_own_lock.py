"""requirements-dev.lock: it has all that pyproject.toml and the packages themselves require, with hashes, for each
Python that pyproject.toml allows. Make it anew: make lock
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tasks.engine.errors import UsageError
from tasks.engine.release import lockfile
from tasks.engine.release.lockfile import Lock, LockedRequirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[3]
LOCK = ROOT / "requirements-dev.lock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PYTHONS = [
    f"3.{minor}" for minor in range(9, 16) if f"3.{minor}" in SpecifierSet(PROJECT["project"]["requires-python"])
]


def environment(python: str) -> dict[str, str]:
    """Return this machine as markers see it, with another Python."""
    return {**{key: str(value) for key, value in default_environment().items()},
            "python_version": python, "python_full_version": f"{python}.1"}  # fmt: skip


def group(name: str) -> Iterator[Requirement]:
    """Yield the requirements of a group of pyproject.toml, and of those that it includes."""
    for item in PROJECT["dependency-groups"][name]:
        yield from group(item["include-group"]) if isinstance(item, dict) else [Requirement(item)]


def pinned(lock: Lock, name: str, python: str) -> list[LockedRequirement]:
    """Return the pins of a package for a Python."""
    found = (entry for entry in lock.entries if entry.name == canonicalize_name(name))
    return [entry for entry in found if not entry.marker or _applies(entry.marker, python)]


def _applies(marker: str, python: str) -> bool:
    applies: Any = Requirement(f"x ; {marker}").marker
    return bool(applies.evaluate(environment(python)))


def lacking(lock: Lock, wanted: Iterable[Requirement], python: str) -> list[str]:
    """Return the requirements that the lock does not satisfy for a Python."""
    applying = (one for one in wanted if not one.marker or one.marker.evaluate({**environment(python), "extra": ""}))
    return [
        str(one)
        for one in applying
        if len(pins := pinned(lock, one.name, python)) != 1 or not one.specifier.contains(pins[0].version, True)
    ]


@pytest.fixture(scope="module")
def lock() -> Lock:
    return lockfile.parse(LOCK.read_text(encoding="utf-8"), LOCK, None)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_satisfies_pyproject(lock: Lock, python: str) -> None:
    assert {"3.10", "3.14"} <= set(PYTHONS)
    assert lacking(lock, group("dev"), python) == [], "make lock"


def test_what_the_packages_themselves_require_is_locked(lock: Lock) -> None:
    python = f"3.{sys.version_info.minor}"
    for entry in {one.name: one for one in lock.entries}.values():
        try:
            found = importlib.metadata.distribution(entry.name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if found.version in {pin.version for pin in pinned(lock, entry.name, python)}:
            assert lacking(lock, map(Requirement, found.requires or ()), python) == [], entry


@pytest.mark.parametrize("edit", [r"^pytest==9\.", r"^flask==.*(\n .*)*"])
def test_a_lock_that_no_longer_fits_is_found(edit: str) -> None:
    text = re.sub(edit, "pytest==6." if "pytest" in edit else "", LOCK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(lacking(lockfile.parse(text, LOCK, None), group("dev"), "3.12")) == 1


def test_each_pin_has_hashes_and_none_names_an_index() -> None:
    text = LOCK.read_text(encoding="utf-8")
    assert not re.search(r"://|^--|file:|@", text, re.MULTILINE)
    assert text.count("==") < text.count("--hash=sha256:")
    with pytest.raises(UsageError, match="no sha256 hash"):
        lockfile.parse(re.sub(r" \\\n    --hash=\S+", "", text), LOCK, None)


def test_setup_installs_from_the_lock_alone() -> None:
    told = subprocess.run(
        ["make", "--dry-run", "--always-make", "setup"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    installs = [line for line in told.stdout.splitlines() if "pip install" in line]
    assert len(installs) == 1
    assert "--require-hashes" in installs[0]
    assert installs[0].endswith("--requirement requirements-dev.lock")
