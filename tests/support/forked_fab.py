"""`fab` in a fork of one process that has loaded it: for tests of its words, in which no start of it counts.

Loading Fabric and the engine takes most of the time of a `fab` that refuses its command line. The fabfile is the
clone's; the engine is the one that the clone is a copy of.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.support.clone import FAB, ROOT, Clone, Ended
from tests.support.forks import Forks

PRELOAD = f"""
import importlib, packaging.version, pkgutil, pwd, secrets, sys
from fabric.main import program
sys.path.insert(0, {str(ROOT)!r})
import tasks
for found in pkgutil.walk_packages(tasks.__path__, "tasks."):
    importlib.import_module(found.name)
sys.path.remove({str(ROOT)!r})
"""
# Constants of modules that are paths below this project become paths below the clone.
BODY = f"""
import pathlib, sys
from fabric.main import program
for module in [module for name, module in sys.modules.items() if name.startswith("tasks.")]:
    for name, value in list(vars(module).items()):
        if isinstance(value, pathlib.Path) and value.is_relative_to({str(ROOT)!r}):
            setattr(module, name, pathlib.Path.cwd() / value.relative_to({str(ROOT)!r}))
program.run()
"""


@pytest.fixture(scope="session")
def fab_forks() -> Iterator[Forks]:
    """The process that all tests of this one fork."""
    forks = Forks([sys.executable], PRELOAD, BODY)
    yield forks
    forks.close()


@pytest.fixture
def forked_fab(fab_forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `Clone.fab` run in forks."""

    def fab(clone: Clone, *words: str, timeout: float = 300) -> Ended:
        ended, out, err = fab_forks.run([str(FAB), *words], clone.variables(), clone.root, timeout=timeout)
        return Ended(ended, out.decode(), err.decode())

    monkeypatch.setattr(Clone, "fab", fab)
