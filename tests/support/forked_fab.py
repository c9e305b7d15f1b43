"""`fab` in a fork of one process that has loaded Fabric: for tests of its words, in which no start of it counts.

Loading Fabric takes most of the time of a `fab` that refuses its command line. The clone's own modules are loaded anew.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clone import FAB, Clone, Ended

_SERVER = """
import atexit, json, os, sys, threading
import packaging.version, pwd, secrets
from fabric.main import program

for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    for number, path in enumerate((os.devnull, asked["out"], asked["err"])):
        os.dup2(os.open(path, os.O_RDWR), number)
    sys.stdin, sys.stdout, sys.stderr = (open(number, mode) for number, mode in enumerate("rww"))
    sys.argv = asked["words"]
    status = 1
    try:
        program.run()
        status = 0
    except SystemExit as ended:
        status = ended.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
"""


class Server:
    """The process, and a directory for the output of its forks."""

    def __init__(self, folder: Path) -> None:
        self._out, self._err = folder / "out", folder / "err"
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def fab(self, clone: Clone, *words: str, **_: Any) -> Ended:
        """Run `fab WORDS` to its end, as `Clone.fab` does."""
        for path in (self._out, self._err):
            path.write_text("")
        assert self._process.stdin
        assert self._process.stdout
        asked = {"cwd": str(clone.root), "environment": clone.variables(), "words": [str(FAB), *words]}
        print(json.dumps({**asked, "out": str(self._out), "err": str(self._err)}), file=self._process.stdin, flush=True)
        status = int(self._process.stdout.readline())
        return Ended(status, self._out.read_text(), self._err.read_text())

    def close(self) -> None:
        """End the process."""
        with self._process:
            assert self._process.stdin
            self._process.stdin.close()


@pytest.fixture(scope="session")
def fab_server() -> Iterator[Server]:
    """A server for all tests of this process."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        yield server
        server.close()


@pytest.fixture
def forked_fab(fab_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `Clone.fab` run in forks."""
    monkeypatch.setattr(Clone, "fab", lambda clone, *words, **options: fab_server.fab(clone, *words, **options))
