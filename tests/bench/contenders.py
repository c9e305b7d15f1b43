"""The contenders: we, the limit made by hand, and the peers that pip can install. Each has a project of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from tests.bench import job
from tests.bench.ground import Ground
from tests.support.clone import FAB, Clone, make
from tests.support.stand_ins import write_inventory

HERE = Path(__file__).resolve().parent
ACTIONS = ("first", "code", "none", "dependency", "rollback", "restart", "status")
"""The actions timed: a first deploy, a code change, no change, an added dependency, and three verbs."""


class Contender(ABC):
    """One contender. name: also that of its service on the hosts; actions: those that it supports.

    pip: needs pip's own wheel.
    """

    actions: tuple[str, ...] = ACTIONS
    pip = False

    def __init__(self, name: str, folder: Path, ground: Ground, wheels: Path) -> None:
        self.name, self.ground, self._published = name, ground, wheels
        self.project = folder / name
        self.edition = self.added = 0

    @property
    def wheels(self) -> Path:
        """Return the directory of its wheels."""
        return self.project / "wheels"

    @property
    def code(self) -> Path:
        """Return the directory of its application."""
        return self.project / "code"

    @property
    def folder(self) -> Path:
        """Return the directory that its command runs in."""
        return self.project

    def begin(self) -> None:
        """Make its project."""
        job.application(self.code)
        job.setup(self.project / "setup", self.name)
        job.provide(self._published, self.wheels, pip=self.pip)
        self.ground.ssh_config(self.project)
        self.lock()

    def edit(self) -> None:
        """Change the code."""
        self.edition += 1
        job.edit(self.code, self.edition)

    def depend(self) -> None:
        """Add a release of the dependency that no host has seen."""
        self.added += 1
        job.publish(self._published, self.wheels, self.added)
        self.lock()

    def lock(self) -> None:
        """Write the requirements."""
        (self.project / "requirements.txt").write_text(job.requirements(self.wheels, self.added))

    def rest(self) -> None:
        """Wait until its hosts finish their background work, which would slow down the next contender."""
        self.ground.rest(self.name)

    def wipe(self) -> None:
        """Remove it from its hosts, and forget its state."""
        self.ground.wipe(self.name)

    def environment(self) -> Mapping[str, str]:
        """Return the environment of its command."""
        return {
            **{
                key: value
                for key, value in os.environ.items()
                if key not in {"SSH_AUTH_SOCK", "PYTHONDONTWRITEBYTECODE"}
            },
            "PROJECT": str(self.project),
        }

    @abstractmethod
    def command(self, action: str) -> tuple[str, ...]:
        """Return the command line of an action; all kinds of deploys use the same one."""


class Ours(Contender):
    """`fab deploy`. held: with the health check over two seconds and the probation that the template has."""

    def __init__(self, name: str, folder: Path, ground: Ground, wheels: Path, *, held: bool = False) -> None:
        super().__init__(name, folder, ground, wheels)
        self._held = held
        self._clone: Clone | None = None

    @property
    def clone(self) -> Clone:
        """Return its copy of this project."""
        assert self._clone, "begin comes first"
        return self._clone

    @property
    def code(self) -> Path:
        return self.clone.root / "service"

    @property
    def folder(self) -> Path:
        return self.clone.root

    def begin(self) -> None:
        self.project.mkdir(parents=True)
        job.provide(self._published, self.wheels, pip=self.pip)
        inventory = write_inventory(self.project / "hosts.yaml", self.ground.inventory())
        self._clone = clone = make(self.project, inventory)
        shutil.rmtree(clone.root / "service")
        job.application(self.code)
        check = "settle: 2, passes: 3" if self._held else "settle: 0, passes: 1"
        clone.write("service/service.yaml", f"""\
name: {self.name}
app: "app:create_app()"
processes: {{web: {{workers: 2, threads: 4}}}}
health: {{path: /readyz, {check}}}
probation: {30 if self._held else 0}
nginx: {{server_name: {self.name}.example}}
""")  # fmt: skip
        self.lock()

    def lock(self) -> None:
        lines = job.requirements(self.wheels, self.added).splitlines()
        (self.code / "requirements.txt").write_text(
            "".join(f"{line}{job.digests(self.wheels, line)}\n" for line in lines)
        )

    def depend(self) -> None:
        super().depend()
        # Everybody has the wheels at hand: what fetches them is no part of the job.
        run = subprocess.run(
            [str(FAB), "plan", "-H", "all"], cwd=self.folder, env=self.environment(), capture_output=True
        )
        assert run.returncode == 0, run.stderr.decode(errors="replace")

    def rest(self) -> None:
        # A probation goes on for longer than anybody would wait here.
        if not self._held:
            super().rest()

    def wipe(self) -> None:
        self.clone.done("remove", "-H", "all", "--yes", "--data")

    def environment(self) -> Mapping[str, str]:
        home = {"HOME": str(self.project / "home"), "PIP_FIND_LINKS": str(self.wheels), "PIP_NO_INDEX": "1"}
        return {**super().environment(), **home, "HOSTS": str(self.clone.inventory)}

    def command(self, action: str) -> tuple[str, ...]:
        verb = action if action in {"rollback", "restart", "status"} else "deploy"
        waves = () if verb == "status" else ("--canary", "0", "--batch", "100%")
        return (str(FAB), verb, "-H", "all", *waves)


class Limit(Contender):
    """The limit: deploy.sh, with uv or with pip on the host."""

    actions = ("first", "code", "none", "dependency", "rollback", "restart")

    def __init__(self, name: str, folder: Path, ground: Ground, wheels: Path, *, installer: str) -> None:
        super().__init__(name, folder, ground, wheels)
        self._installer = installer
        self.pip = installer == "pip"

    def begin(self) -> None:
        super().begin()
        if self._installer == "uv":
            shutil.copy(Path(sys.executable).with_name("uv"), self.project / "uv")

    def wipe(self) -> None:
        super().wipe()
        shutil.rmtree(self.project / ".sent", ignore_errors=True)

    def command(self, action: str) -> tuple[str, ...]:
        verb = action if action in {"rollback", "restart"} else "deploy"
        hosts = [f"h{number}" for number in range(1, len(self.ground.machines) + 1)]
        return ("sh", str(HERE / "limit/deploy.sh"), verb, str(self.project), self._installer, *hosts)
