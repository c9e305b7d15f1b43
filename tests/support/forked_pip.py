"""pip in a fork of one process that has loaded it: for tests of what it finds and fetches, not of how it starts.

Loading pip takes most of the time of a run that fetches a small file.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest

from tasks.engine.release import index_settings, pip
from tests.support.forks import Forks, status

STARTED = pip._watched
"""The engine's own function, which starts pip and limits it."""
# For its name of this machine, pip starts three programs; to read the certificates of this machine takes half of a run.
PRELOAD = """
import encodings.cp437, gzip, netrc
import pip._internal.cli.autocompletion, pip._internal.cli.main, pip._internal.cli.main_parser
import pip._internal.resolution.resolvelib.resolver, pip._vendor.truststore
from pip._internal.cli import index_command
from pip._internal.commands import configuration, download, wheel
from pip._internal.network import session
session.user_agent = lambda name=session.user_agent(): name
index_command._create_truststore_ssl_context = lambda made=index_command._create_truststore_ssl_context(): made
"""
BODY = "import sys\nfrom pip._internal.cli.main import main\nsys.exit(main())"


@pytest.fixture(scope="session")
def pip_forks() -> Iterator[Forks]:
    """The process that all tests of this one fork."""
    forks = Forks([sys.executable], PRELOAD, BODY)
    yield forks
    forks.close()


@pytest.fixture
def forked_pip(pip_forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine's pip run in forks, without a limit of time or memory: tests of those start it themselves."""

    def watched(command: Sequence[str], environment: Mapping[str, str], _: Path, said: IO[bytes]) -> tuple[int, str]:
        with Path(os.devnull).open() as nothing:
            streams = [nothing.fileno(), said.fileno(), said.fileno()]
            return status(pip_forks.start(_words(command), environment, streams)), ""

    def run(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, *pip_forks.run(_words(command), os.environ))

    monkeypatch.setattr(pip, "_watched", watched)
    monkeypatch.setattr(index_settings, "subprocess", SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL))


def _words(command: Sequence[str]) -> Sequence[str]:
    """Return the argv of pip in `python -m pip ...`; FileNotFoundError if there is no such Python."""
    Path(command[0]).stat()
    assert command[1:3] == ["-m", "pip"]
    return command[2:]
