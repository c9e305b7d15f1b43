"""A clone of this project that a test can change, and `fab` in it, as an operator uses them."""

from __future__ import annotations

import atexit
import compileall
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from tasks.engine.parallel import run_in_thread
from tests.support.ending import Ending
from tests.support.forked_fab import forks
from tests.support.git_repository import git

ROOT = Path(__file__).resolve().parents[2]
FAB = Path(sys.executable).with_name("fab")
STOP_MARGIN = 9
"""Seconds beyond `drain` that a slot of a hurried clone may take to end."""
_PARTS = ("fabfile.py", "fabric.yaml", "hosts.yaml", "tasks", "templates", "service")
_WAITS = (
    ("templates/host/change_lock.py", "_GUARD_WAIT = 30", "_GUARD_WAIT = 10"),
    ("templates/host/change_lock.py", "_OUTLIVED = 15", "_OUTLIVED = 6"),
    ("templates/host/slots.py", "STOP_MARGIN = 15", f"STOP_MARGIN = {STOP_MARGIN}"),
    # systemd ends a slot before our bound does.
    ("tasks/engine/host/layout.py", "5 * GRACE", "3 * GRACE"),
    ("templates/take_certificate.sh", "-10 seconds", "-2 seconds"),
    ("templates/take_certificate.sh", "sleep 10", "sleep 2"),
    ("templates/take_certificate.sh", "left=50", "left=20"),
)
"""Waits for what may be dead, by file, and the shorter ones of `hurried`."""


@dataclass
class Ended:
    """The result of a `fab`. out, err: as text, apart; `both` loses their order on a terminal."""

    status: int
    out: str
    err: str

    @property
    def both(self) -> str:
        """Everything it printed."""
        return self.out + self.err

    def json(self) -> Any:
        """Parse its one document."""
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        """Parse its objects, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Process(Ending[str]):
    """A `fab` that runs. A test may read its first lines, and have the rest from `communicate`."""

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:  # noqa: A002 - as Popen has it
        """Return what is left of its output and of its errors; TimeoutExpired after so many seconds.

        Popen's own reads the pipes directly: it loses the lines that `readline` has read ahead.
        """
        left = [run_in_thread(stream.read) if stream else None for stream in (self.stdout, self.stderr)]
        if self.stdin:
            # A process that has ended reads no more.
            with suppress(BrokenPipeError):
                if input:
                    self.stdin.write(input)
                self.stdin.close()
        self.wait(timeout)
        out, err = (future.result(timeout) if future else None for future in left)
        for stream in (self.stdout, self.stderr):
            if stream:
                stream.close()
        return out, err


@dataclass
class Clone:
    """A committed working copy at `root`. Its `fab` sees `inventory`, and nothing of the account that runs tests."""

    root: Path
    inventory: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        """Return the environment of its `fab`."""
        # Each terminal has a size of its own; pytest-xdist sets these two for all.
        left_out = {"SSH_AUTH_SOCK", "LINES", "COLUMNS"}
        inherited = {key: value for key, value in os.environ.items() if key not in left_out}
        environment = {**inherited, "HOME": str(self.root.parent / "home"), **self.environment}
        # Wheels fetched by earlier tests are as good as new ones.
        environment.setdefault("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")))
        if self.inventory:
            environment["HOSTS"] = str(self.inventory)
        return environment

    def start(self, *words: str, **options: Any) -> Process:
        """Begin `fab WORDS` without waiting for it, as a process of its own."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return Process([FAB, *words], cwd=self.root, env=self.variables(), **{"text": True, **pipes, **options})

    def fab(self, *words: str, timeout: float = 300) -> Ended:
        """Run `fab WORDS` to its end, without a terminal."""
        status, *streams = forks().run([str(FAB), *words], self.variables(), self.root, timeout=timeout)
        # With the line ends of a text, as `process` reads them.
        return Ended(status, *(TextIOWrapper(BytesIO(stream)).read() for stream in streams))

    def process(self, *words: str, timeout: float = 300) -> Ended:
        """Run `fab WORDS` like `fab`, but as a process of its own: what Python does as it starts counts."""
        with self.start(*words) as process:
            out, err = process.communicate(timeout=timeout)
        return Ended(process.returncode, out, err)

    def done(self, *words: str) -> Ended:
        """Run `fab WORDS`, which must succeed."""
        ended = self.fab(*words)
        assert ended.status == 0, f"fab {' '.join(words)} ended with {ended.status}:\n{ended.both}"
        return ended

    def write(self, path: str, text: str) -> None:
        """Put a file into the clone."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and target.stat().st_nlink > 1:
            # Other clones have the same file.
            target.unlink()
        target.write_text(text)

    def replace(self, path: str, before: str, after: str) -> None:
        """Edit a file of the clone; it must contain `before`."""
        text = (self.root / path).read_text()
        assert before in text, f"{path} has no {before!r}"
        self.write(path, text.replace(before, after))

    def release(self) -> str:
        """Return the id that a deploy of the clone would have now."""
        from tasks.engine.fleet import project

        return project.load(self.root, self.hosts()).release().id

    def hosts(self) -> Mapping[str, str]:
        """Return the environment that selects the inventory."""
        return {"HOSTS": str(self.inventory)} if self.inventory else {}


def make(folder: Path, inventory: Path | None = None) -> Clone:
    """A committed clone below `folder`; its `tasks` are compiled, as after a first run of it.

    Links of files that no test edits, except by `Clone.write`, take a quarter of the time that copies take.
    """
    folder.mkdir(parents=True, exist_ok=True)
    original, root = _original(), folder / "clone"
    folders, linked, copied = _entries()
    root.mkdir()
    for path in folders:
        os.mkdir(f"{root}/{path}")  # noqa: PTH102 - a path of text takes a third of the time
    for path in linked:
        try:
            os.link(f"{original}/{path}", f"{root}/{path}")
        except OSError:
            # On another file system it is copied.
            shutil.copy2(original / path, root / path, follow_symlinks=False)
    for path in copied:
        shutil.copy2(original / path, root / path, follow_symlinks=False)
    (folder / "home").mkdir(exist_ok=True)
    return Clone(root, inventory)


@cache
def _original() -> Path:
    """Make and commit the clone that all others of this process are copies of."""
    _compile()
    folder = Path(tempfile.mkdtemp(prefix="clone."))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    root = folder / "clone"
    root.mkdir()
    for part in _PARTS:
        source = ROOT / part
        if source.is_dir():
            left = shutil.ignore_patterns(".*_cache", "*.pyc.*" if part == "tasks" else "__pycache__")
            shutil.copytree(source, root / part, ignore=left)
        else:
            shutil.copy(source, root / part)
    (root / ".gitignore").write_text("__pycache__/\n/.sandbox/\n")
    # One release at a time is enough for most tests; those of the probation request one.
    service = root / "service/service.yaml"
    service.write_text(service.read_text().replace("\nprobation: 30", "\nprobation: 0 "))
    git(root, "init", "-q", "-b", "main", "--template=")
    git(root, "add", "-A")
    git(root, "-c", "user.name=tests", "-c", "user.email=tests@example", "commit", "-q", "-m", "as cloned")
    # One file to copy in place of hundreds.
    git(root, "gc", "-q")
    return root


@cache
def _entries() -> tuple[list[str], list[str], list[str]]:
    """Return what the original has: its folders, outermost first, the files to link, and those to copy."""
    root = _original()
    entries = sorted(root.rglob("*"))
    folders = [str(path.relative_to(root)) for path in entries if path.is_dir() and not path.is_symlink()]
    files = [str(path.relative_to(root)) for path in entries if path.is_symlink() or path.is_file()]
    linked = [path for path in files if path.startswith(("tasks/", "templates/", ".git/objects/"))]
    return folders, linked, sorted({*files} - {*linked})


@cache
def _compile() -> None:
    """Compile once: otherwise each of hundreds of clones does, and every run if PYTHONDONTWRITEBYTECODE is set."""
    compileall.compile_dir(ROOT / "tasks", quiet=2)


def two_workers(clone: Clone) -> None:
    """Start two workers in place of four: each imports the application, a tenth of a second of the processor."""
    clone.replace("service/service.yaml", "{workers: 4, threads: 1}", "{workers: 2, threads: 1}")


def quicken(clone: Clone) -> None:
    """Let one good answer of the health check suffice, and start two workers, for tests about something else."""
    two_workers(clone)
    clone.replace("service/service.yaml", "settle: 2", "settle: 0")
    clone.replace("service/service.yaml", "passes: 3", "passes: 1")


def hurried(clone: Clone) -> Clone:
    """Wait less for runs, guards and slots that may be dead: for tests that wait to the end."""
    for path, ours, shorter in _WAITS:
        clone.replace(path, ours, shorter)
    return clone


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A clone without an inventory: set `clone.inventory` to the hosts.yaml of the test's hosts."""
    return make(tmp_path)
