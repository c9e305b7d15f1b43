"""`fab` in a fork of one process that has loaded Fabric: for tests of its words, in which no start of it counts.

Loading Fabric takes most of the time of a `fab` that refuses its command line. The clone's own modules are loaded anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.clone import FAB, Clone, Ended
from tests.support.forks import Forks

PRELOAD = "import packaging.version, pwd, secrets\nfrom fabric.main import program"
BODY = "from fabric.main import program\nprogram.run()"


@pytest.fixture(scope="session")
def fab_forks() -> Iterator[Forks]:
    """The process that all tests of this one fork."""
    forks = Forks([sys.executable], PRELOAD, BODY)
    yield forks
    forks.close()


@pytest.fixture
def forked_fab(fab_forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `Clone.fab` run in forks."""

    def fab(clone: Clone, *words: str, **_: Any) -> Ended:
        ended, out, err = fab_forks.run([str(FAB), *words], clone.variables(), clone.root)
        return Ended(ended, out.decode(), err.decode())

    monkeypatch.setattr(Clone, "fab", fab)
