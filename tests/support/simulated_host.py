"""A simulated host: a directory, the host's program, and small stand-ins for systemctl, curl and so on.

The program is the one a deploy would send, except its paths: PATH, /run, /proc and the service's directory are
below a temporary directory. Each program that it calls to change or query something leaves a line in `calls`, and a
signal can cut the run exactly there.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from unittest import mock

import pytest

from tasks.engine.config.gateway import Nginx
from tasks.engine.config.sections import Health
from tasks.engine.config.service import Process, Service
from tasks.engine.host import host_program, layout, templates
from tasks.engine.host.protocol import Output, Report, Transcript
from tasks.engine.host.steps import HostStep
from tasks.engine.ssh.session import LinkLost, Run, Sink, command, framed, opening, stream
from templates.host.slot_names import SLOTS
from templates.host.venv import files as venv_files
from tests.support.forks import Forks, status
from tests.support.local_session import LocalShell, Started

STUBS = Path(__file__).resolve().parent / "stubs"
SERVICE = Service(
    "myapp",
    "app:create_app()",
    processes=(Process("web", workers=2, threads=4), Process("worker", "python -m jobs")),
    health=Health("/readyz", 200, 5, 2, 1.0),
    drain=3,
    probation=0,
    nginx=Nginx(("myapp.example",)),
    keep=2,
)
OOM = "{}: A process of this unit has been killed by the OOM killer.\n"
"""A line of systemd in the journal, for a unit."""
OLD, NEW = "a" * 12, "b" * 12
SHARES = 4
"""Cutting a step at each of its calls is so many cases, each of which cuts it at every fourth call."""
RUN = Run("20260101T000000-abc123", '{"user":"me"}')
PLACES = {
    "/usr/local/sbin:/usr/local/bin:": f"{STUBS}:",
    'f"/run/': 'f"{LAB}/run/',
    '= "/run", "/proc"': '= f"{LAB}/run", f"{LAB}/proc"',
    '"/etc/systemd/system/multi': 'f"{LAB}/enabled/multi',
    "/etc/{name}/check": "{LAB}/check",
}
"""The program's paths, each with its replacement here; `simulated_calls` sets LAB."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PYTHON = shutil.which("python3", path=PATH) or sys.executable
BODY = "import sys; stream = sys.stdin.buffer; exec(compile(stream.read(int(stream.readline())), 'program', 'exec'))"
PRELOAD = """
import {needs}
import builtins, importlib, pathlib, sys, typing
builtins.LAB = "/@lab"
sys.path.insert(0, {folder!r})
import host_sources, {modules}
builtins.LAB_PLACES = [
    (module, name, value)
    for module in [sys.modules[name] for name in {names!r}]
    for name, value in vars(module).items()
    if value in (host.run.now, host.units.SYSTEMCTL) or isinstance(value, str) and value.startswith(LAB + "/")
]
"""
"""Loads the program for all forks. Each fork puts its own path, clock and systemctl in their places."""


@cache
def forks() -> Forks:
    """Return the interpreter that all steps of this process are forks of: its start takes most of a step's time."""
    names = [f"host.{name}" for name in templates.modules("host")]
    needs = ", ".join(host_program.NEEDS)
    preload = PRELOAD.format(needs=needs, folder=str(folder()), modules=", ".join(names), names=names)
    made = Forks([PYTHON, "-I", "-S"], preload, BODY)
    atexit.register(made.close)
    return made


class Forked(LocalShell):
    """A session whose steps are forks."""

    def start(self) -> Started:
        """Start a step, whose input is what a shell would get."""
        assert self.environment is not None
        theirs, stdin = os.pipe()
        stdout, written = os.pipe()
        ended = forks().start(["-c"], {**self.environment, "LC_ALL": "C", "PATH": PATH}, [theirs, written, written])
        os.close(theirs)
        os.close(written)
        return Started(os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb"), lambda: status(ended))

    def _stream(self, step: HostStep, run: Run, nonce: str, payload: Iterable[bytes]) -> Iterator[bytes]:
        yield framed(program())
        yield from stream(step, run, nonce, payload)


@cache
def folder() -> Path:
    """Make the host's program with its paths below a temporary directory; return where its modules lie.

    All hosts of this process share them: compiled once, not for each step.
    """
    sources = {name: templates.text(f"host/{name}.py") for name in templates.modules("host")}
    for before, after in PLACES.items():
        assert any(before in text for text in sources.values()), f"{before!r} is gone: this module has to follow"
        sources = {name: text.replace(before, after) for name, text in sources.items()}
    folder = Path(tempfile.mkdtemp(prefix="lab."))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "host").mkdir()
    for name, text in {**sources, "lab": Path(__file__).with_name("simulated_calls.py").read_text()}.items():
        (folder / f"host/{name}.py").write_text(text)
    (folder / "host_sources.py").write_text(f"SOURCES = {sources!r}\n")
    return folder


def program() -> str:
    """Return the text that starts the program."""
    ahead = f"import sys\n\nsys.path.insert(0, {str(folder())!r})\nimport host.lab\nfrom host_sources import SOURCES\n"
    return f"{ahead}from host.main import start\n\nstart(SOURCES)\n"


@dataclass
class SimulatedHost:
    """A host in a directory. root: its /opt/apps/myapp; run_folder: its /run/myapp.

    failpoint: `STEP=ACTION`, the place where its program breaks; guard_said: output of a run's guard in the journal.
    """

    folder: Path
    service: Service = SERVICE
    transcript: Transcript = field(default_factory=Transcript)
    failpoint: str = ""
    guard_said: str = ""

    def __post_init__(self) -> None:
        self.root, self.run_folder = self.folder / "apps", self.folder / "run/myapp"
        self.root.mkdir()
        for path in ("releases", "venvs", "wheels", "slots/blue", "slots/green"):
            (self.root / path).mkdir(parents=True)
        for path in ("units", "answers", "queues", "proc", "check"):
            (self.folder / path).mkdir()
        (self.folder / "enabled/multi-user.target.wants").mkdir(parents=True)
        (self.folder / "enabled/multi-user.target.wants/myapp.service").symlink_to("../myapp.service")
        for way in (*SLOTS, "live"):
            (self.folder / "check" / way).touch()
        (self.folder / "proc/uptime").write_text("1000.00 1.00\n")
        (self.folder / "proc/self").symlink_to("/proc/self")
        rules = (" ".join(("systemctl", *words)) for words in layout.commands(self.service))
        (self.folder / "rules").write_text("".join(f"{rule}\n" for rule in ("RULES='", *rules, "'")))
        self.boot()

    def boot(self) -> None:
        """Do what a boot does: empty /run except what tmpfiles makes, and start the committed slot."""
        shutil.rmtree(self.run_folder.parent, ignore_errors=True)
        for name in ("try", "ctl", "lock"):
            (self.run_folder / name).mkdir(parents=True)
        for name in ("run", "activate", "stage", "history", "guard"):
            (self.run_folder / "lock" / name).touch()
        for name in SLOTS:
            (self.run_folder / name).mkdir()
            (self.run_folder / name / "http.sock").symlink_to(f"../{name}.sock")
            (self.run_folder / f"{name}.sock").touch()
            (self.folder / f"file-{name}.sock").write_text(said_by_ss(self.run_folder / f"{name}.sock"))
        for unit in (self.folder / "units").iterdir():
            unit.unlink()
        if (slot := self.slot("current")) is not None:
            (self.run_folder / "live").symlink_to(slot)
            self.unit(f"myapp@{slot}.service").write_text("active")
            self.unit(f"myapp-worker@{slot}.service").write_text("active")
            self.unit("myapp.service").write_text("active")

    def release(self, name: str, code: str = "print('hello')\n") -> None:
        """Make a staged release, with its venv."""
        home = self.root / "releases" / name
        (home / "code").mkdir(parents=True)
        (home / "code/app.py").write_text(code)
        (home / "MANIFEST").write_text(f"{hashlib.sha256(code.encode()).hexdigest()}  app.py\n")
        (home / "WHEELS").write_text("")
        (home / "run").mkdir()
        (home / "run/worker").touch()
        self.venv("1" * 16)
        (home / "venv").symlink_to(f"../../venvs/{'1' * 16}")

    def venv(self, name: str) -> None:
        """Make a venv that works."""
        (self.root / "venvs" / name / "bin").mkdir(parents=True, exist_ok=True)
        python = self.root / "venvs" / name / "bin/python"
        for program in (python, python.with_name("gunicorn")):
            program.write_text("#!/bin/sh\nexit 0\n")
            program.chmod(0o755)
        package = self.root / "venvs" / name / "lib/python3/site-packages/gunicorn"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").touch()

    def list_venv(self, venv: Path) -> None:
        """Write the list of the venv's files, as a stage does."""
        (venv / "FILES").write_text("".join(f"{line}\n" for line in sorted(venv_files(str(venv)))))

    def execute(
        self, step: HostStep, payload: Iterable[bytes] = (), at: str = "", do: Callable[[], object] = list
    ) -> int:
        """Run a step; return its exit status, or minus its signal. do: called when the step `at` is reported."""

        def sink(item: Report | Output) -> None:
            if isinstance(item, Report) and item.word == "step" and item.text.split(" ")[0] == at:
                do()

        try:
            self.transcript = self._execute(step, sink, payload)
        except LinkLost as lost:
            self.transcript = Transcript()
            return -int(lost.message.rpartition(" ")[2])
        if step.name == "activate":
            self._guard(step)
        return self.transcript.exit

    def _execute(self, step: HostStep, sink: Sink, payload: Iterable[bytes] = ()) -> Transcript:
        # Modules that a fork has already would work without their files.
        sealed = (self.folder / "sealed").exists()
        kind = LocalShell if sealed else Forked
        local = kind(environment=self._environment, program=(host_program.STARTER, program()))
        return local.execute(self.moved(step), RUN._replace(failpoint=self.failpoint), sink, payload)

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "LAB": str(self.folder), "STUBS": str(STUBS)}

    def unheard(self, step: HostStep, output: int) -> int:
        """Run a step of the program with its output elsewhere; return its exit status."""
        moved = self.moved(step)
        sent = b"".join((opening("", program=program()), *stream(moved, RUN, "n", ())))
        words = ["/bin/sh", "-c", command()]
        return subprocess.run(
            words, input=sent, stdout=output, env=self._environment, timeout=60, check=False
        ).returncode

    def _guard(self, run: HostStep) -> None:
        """Run the guard's part of what the run left to it, as soon as the run has ended."""
        until = self.run_folder / "ctl/probation/until"
        if not until.exists() or not until.read_text().startswith("drain "):
            return
        # The signal that cuts the run is not meant for its guard.
        self.mend()

        def sink(item: Report | Output) -> None:
            self.guard_said += f"{item.text}\n" if isinstance(item, Output) else ""

        with mock.patch.dict(os.environ, SLOT=self.slot("current") or ""):
            assert self._execute(guard_of(run), sink).exit == 0

    def moved(self, step: HostStep) -> HostStep:
        """Return the step with its paths below the temporary directory, otherwise unchanged."""
        return step._replace(text=step.text.replace(layout.root(self.service), str(self.root)), place="")

    @property
    def calls(self) -> list[str]:
        """Return the calls of the last runs, in order, without the temporary directory."""
        log = self.folder / "calls"
        return log.read_text().replace(f"{self.folder}/", "").splitlines() if log.exists() else []

    def forget(self) -> None:
        """Start a new list of calls."""
        (self.folder / "calls").unlink(missing_ok=True)

    def cut(self, call: int, signal: str) -> None:
        """Send this signal to the step once its call of that number, from 1, has ended."""
        (self.folder / "cut").write_text(f"{call} {signal}\n")

    def mend(self) -> None:
        """Remove the cut."""
        (self.folder / "cut").unlink(missing_ok=True)

    def unit(self, name: str) -> Path:
        """Return the file that holds a unit's state."""
        return self.folder / "units" / name

    def running(self) -> set[str]:
        """Return the slots whose service runs."""
        return {slot for slot in SLOTS if self.state(f"myapp@{slot}.service") == "active"}

    def workers(self) -> set[str]:
        """Return the slots whose further process runs."""
        return {slot for slot in SLOTS if self.state(f"myapp-worker@{slot}.service") == "active"}

    def state(self, name: str) -> str:
        """Return a unit's state."""
        return self.unit(name).read_text() if self.unit(name).exists() else "inactive"

    def slot(self, link: str) -> str | None:
        """Return the slot that `current` or `live` leads to."""
        path = self.root / "current" if link == "current" else self.run_folder / "live"
        return path.resolve().name if path.exists() else None

    def serves(self) -> str | None:
        """Return the release that a user gets."""
        slot = self.slot("live")
        return (self.root / "slots" / slot / "release").resolve().name if slot in self.running() else None

    def history(self) -> list[tuple[str, str, str]]:
        """Return action, release and state of every line."""
        path = self.root / "history.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [(line["action"], line["release"], line["state"]) for line in lines]

    def leftovers(self) -> list[str]:
        """Return the files that a run should have removed."""
        found = [*self.root.rglob("*.new-*"), *self.run_folder.rglob("*.new-*"), *(self.run_folder / "try").iterdir()]
        found += [*self.root.glob("*/.part-*")]
        return [str(path.relative_to(self.folder)) for path in found]


def guard_of(run: HostStep) -> HostStep:
    """Return the step that systemd starts beside an activation."""
    return run._replace(name="guard", text=json.dumps({**json.loads(run.text), "step": "guard"}))


def said_by_ss(path: Path) -> str:
    """Return ss's name of a bound socket's file: the kernel's device number, decoded by the C library."""
    found = path.stat()
    device = os.major(found.st_dev) << 20 | os.minor(found.st_dev)
    return f"ino:{found.st_ino & 0xFFFFFFFF} dev:{os.major(device)}/{os.minor(device)}"


@contextmanager
def at_work(host: SimulatedHost, holder: Mapping[str, object]) -> Iterator[None]:
    """Let another run activate there for the block."""
    with (host.run_folder / "lock/activate").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(json.dumps(holder) + "\n")
        lock.flush()
        yield


def serving(host: SimulatedHost) -> SimulatedHost:
    """Commit OLD in slot blue, and stage NEW."""
    host.release(OLD)
    host.release(NEW)
    (host.root / "slots/blue/is-blue").touch()
    (host.root / "slots/blue/release").symlink_to(f"../../releases/{OLD}")
    (host.root / "current").symlink_to("slots/blue")
    host.boot()
    return host


@pytest.fixture
def simulated_host(tmp_path: Path) -> SimulatedHost:
    """A simulated host."""
    return SimulatedHost(tmp_path)


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    """A simulated host that serves a release."""
    return serving(SimulatedHost(tmp_path))
