"""The time of uploading 200 MB of wheels: ours, which verifies and places them, beside scp."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from statistics import median

from tasks.engine.config import inventory
from tasks.engine.config.service import Service
from tasks.engine.host import payload, steps
from tasks.engine.host.payload import Delivery
from tasks.engine.host.protocol import Output, Report
from tasks.engine.host.steps import Staging
from tasks.engine.release.archive import Tree
from tasks.engine.release.build import Release
from tasks.engine.release.lockfile import Lock
from tasks.engine.release.wheel_cache import Wheel
from tasks.engine.release.wheelhouse import Wheelhouse
from tasks.engine.ssh.session import Run
from tasks.engine.ssh.ssh_config import Options
from tasks.engine.ssh.ssh_session import SshSession
from tests.bench.ground import Ground, narrow
from tests.support.stand_ins import write_inventory

SIZE, PIECE = 200_000_000, 1 << 20
LINKS = {"as fast as it goes": None, "1 Gbit/s": "1gbit"}
_SERVICE = Service("upload", "app:app")
_ROOT, _LOCKS = "/opt/apps/upload", "/run/upload/lock"


def measure(
    ground: Ground, folder: Path, rounds: int, say: Callable[[str], None], size: int = SIZE
) -> dict[str, tuple[float, float]]:
    """Return the medians in seconds, ours and scp's, measured in turns, by link."""
    folder.mkdir(parents=True)
    wheel = _wheel(folder, size)
    (machine,) = ground.machines
    # A setup would have made it.
    machine.sh(f"mkdir -p {_ROOT}/releases {_ROOT}/venvs {_LOCKS} && touch {_LOCKS}/stage {_LOCKS}/history")
    machine.sh(f"chown -R deploy: {_ROOT} {_LOCKS}")
    config = ground.ssh_config(folder)
    (host,) = inventory.load(folder, {"HOSTS": str(write_inventory(folder / "hosts.yaml", ground.inventory()))}).hosts
    found = {}
    for title, rate in LINKS.items():
        took: tuple[list[float], list[float]] = ([], [])
        with narrow(machine, rate):
            for number in range(1, rounds + 1):
                machine.sh(f"rm -rf {_ROOT}/wheels")
                took[0].append(_timed(lambda: ours(host, wheel)))
                assert machine.sh(f"stat -c %s {_ROOT}/wheels/*.whl").stdout.decode().strip() == str(size)
                words = ["scp", "-q", "-F", str(config), str(wheel.path), "h1:/tmp/upload"]
                took[1].append(_timed(lambda words=words: subprocess.run(words, check=True)))  # type: ignore[misc]
                say(f"Upload, round {number}: {title:20} ours {took[0][-1]:6.2f} s, scp {took[1][-1]:6.2f} s")
        found[title] = (median(took[0]), median(took[1]))
    machine.sh(f"rm -rf {_ROOT} {_LOCKS} /tmp/upload")
    return found


def ours(host: inventory.Host, wheel: Wheel) -> None:
    """Connect, and stage until all has been received: the rest of a stage does not count."""
    release = Release("b" * 12, Tree(()), Lock(()), None, ())
    staging = Staging(release.id, "1" * 16, "python3", None, False, {})
    delivery = Delivery(staging, {}, Wheelhouse("d" * 64, (wheel,)), frozenset(), (), frozenset(), True)
    sent = payload.staging(release, delivery, {}, _SERVICE)
    step = steps.stage(_SERVICE, staging)
    # The host's program goes along: no run has left it there.
    step = step._replace(place="")
    session = SshSession(host, Options())
    try:
        told = session.execute(step, Run("20260101T000000-abc123", "{}", "stage.received=fail"), _ignore, sent)
    finally:
        session.close()
    assert told.last("refused") == "failpoint stage.received", told


def _wheel(folder: Path, size: int) -> Wheel:
    """Write an incompressible file with the name of a wheel."""
    path, seal = folder / "fat-1-py3-none-any.whl", sha256()
    with path.open("wb") as stream:
        for begin in range(0, size, PIECE):
            piece = os.urandom(min(PIECE, size - begin))
            seal.update(piece)
            stream.write(piece)
    return Wheel(path.name, path, seal.hexdigest(), size)


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _ignore(_: Report | Output) -> None:
    """Ignore it: the transcript has it."""
