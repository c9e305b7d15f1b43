"""`fab` in a fork of one process that has loaded Fabric: for tests of its words, in which no start of it counts.

Loading Fabric takes most of the time of a `fab` that refuses its command line. The clone's own modules are loaded anew.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clone import FAB, Clone, Ended
from tests.support.forks import Forks, status

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
        with (
            Path(os.devnull).open() as nothing,
            tempfile.TemporaryFile("w+") as out,
            tempfile.TemporaryFile("w+") as err,
        ):
            streams = [nothing.fileno(), out.fileno(), err.fileno()]
            ended = status(fab_forks.start([str(FAB), *words], clone.variables(), streams, clone.root))
            out.seek(0)
            err.seek(0)
            return Ended(ended, out.read(), err.read())

    monkeypatch.setattr(Clone, "fab", fab)
