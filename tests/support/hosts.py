"""Real hosts for the tests: each pristine, booted in under a second, removed with its test."""

from __future__ import annotations

import os
import platform
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.engine.errors import LoopError
from tasks.engine.sandbox import Machine, Sandbox, process, tree
from tasks.engine.sandbox.locks import locked
from tasks.engine.sandbox.sandbox import inventory_text

MACHINES = pytest.StashKey[list[Machine]]()
_RUNS = Path(tempfile.gettempdir()) / "integrators-loop-tests"


@dataclass(frozen=True)
class Hosts:
    """Machines and a hosts.yaml that names them alone, for `HOSTS=` to point to."""

    machines: tuple[Machine, ...]
    inventory: Path

    def __iter__(self) -> Iterator[Machine]:
        return iter(self.machines)

    def __getitem__(self, index: int) -> Machine:
        return self.machines[index]


MakeHosts = Callable[..., Hosts]


def why_not() -> str | None:
    """Return the reason why real hosts cannot run here, or None. In CI always None: a failed boot is a failure."""
    if os.environ.get("CI") == "true":
        return None
    if platform.system() != "Linux":
        return f"real hosts need Linux, and this is {platform.system()}"
    return None if os.geteuid() == 0 else "real hosts need root: sudo make test"


@pytest.fixture(scope="session")
def sandbox(pytestconfig: pytest.Config) -> Iterator[Sandbox]:
    """The sandbox of this test run, empty; removed with the run, however it ends."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    writer = pytestconfig.get_terminal_writer()
    require_own(_RUNS)
    owner = _RUNS / f"{os.getpid()}.pid"
    with locked(_RUNS / "lock"):
        _sweep()
        owner.write_text(f"{os.getpid()} {process.start_time(os.getpid())}")
    tree.ensure(tree.recipe(), lambda text: writer.line(f"sandbox: {text}"))
    made = Sandbox(_state_of(owner))
    try:
        yield made
    finally:
        made.down()
        owner.unlink()


@pytest.fixture
def hosts(sandbox: Sandbox, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[MakeHosts]:
    """A function that boots pristine hosts: hosts(3), hosts(1, suite="trixie"). A second call continues the numbers."""
    yield from _hosts(sandbox, tmp_path, request)


@pytest.fixture(scope="module")
def module_hosts(
    sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[MakeHosts]:
    """Like `hosts`, for hosts shared by a module's tests: in a separate sandbox, which no single test empties."""
    shared = Sandbox(sandbox.state_dir.with_name(f"{sandbox.state_dir.name}-module"))
    try:
        yield from _hosts(shared, tmp_path_factory.mktemp("hosts"), request)
    finally:
        shared.down()


@pytest.fixture(scope="module")
def shire(module_hosts: MakeHosts) -> Hosts:
    """One host shared by a module's tests."""
    return module_hosts()


def _hosts(sandbox: Sandbox, folder: Path, request: pytest.FixtureRequest) -> Iterator[MakeHosts]:
    machines: list[Machine] = request.node.stash.setdefault(MACHINES, [])

    def make(count: int = 1, suite: str | None = None) -> Hosts:
        names = [f"shire{len(machines) + number:02}" for number in range(1, count + 1)]
        try:
            made = Sandbox(sandbox.state_dir, suite).up(names)
        except LoopError as error:
            pytest.fail("\n".join([error.message, *error.detail]))
        machines.extend(made)
        inventory = folder / f"hosts-{made[0].name}.yaml"
        inventory.write_text(inventory_text(made, sandbox.identity))
        return Hosts(made, inventory)

    try:
        yield make
    finally:
        sandbox.down([machine.name for machine in sandbox.machines()])


@pytest.fixture
def one_host(hosts: MakeHosts) -> Hosts:
    """One pristine host with its inventory."""
    return hosts(1)


@pytest.fixture
def host(one_host: Hosts) -> Machine:
    """One pristine host; the fixture `inventory` is the hosts.yaml that names it."""
    return one_host[0]


@pytest.fixture
def inventory(one_host: Hosts) -> Path:
    """The hosts.yaml of `host`."""
    return one_host.inventory


def require_own(folder: Path) -> None:
    """Make a directory whose name is guessable; it must belong to this user and be closed to others."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        pytest.exit(f"{folder} is not a directory of this user's alone: look at it, and remove it", returncode=1)


def _state_of(owner: Path) -> Path:
    return owner.with_suffix("")


def _sweep() -> None:
    """Take down the sandboxes of runs that were killed before they did."""
    for owner in _RUNS.glob("*.pid"):
        if process.read_pid_file(owner) is None:
            for state in (_state_of(owner), *_RUNS.glob(f"{owner.stem}-*")):
                Sandbox(state).down()
            owner.unlink(missing_ok=True)
