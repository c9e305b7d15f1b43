"""A clone and the hosts that it is deployed to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import clone as clones
from tests.support.clone import Clone
from tests.support.front_door import release_of
from tests.support.hosts import Hosts, MakeHosts


@dataclass(frozen=True)
class Fleet:
    """shire01, shire02, ... and the clone that serves from them."""

    clone: Clone
    hosts: Hosts
    _edits: list[int]

    def edit(self) -> str:
        """Change the service, so that there is something to deploy; return the new release's id."""
        self._edits.append(len(self._edits))
        self.clone.write("service/edition.txt", f"{len(self._edits)}\n")
        return self.clone.release()

    @property
    def answering(self) -> list[str]:
        """Return the release that answers on each host."""
        return [release_of(machine.address) for machine in self.hosts]

    def history(self, host: str) -> list[Any]:
        """Return the history that the host reports."""
        (found,) = self.clone.done("history", "--json", "-H", host).json()["hosts"]
        actions: list[Any] = found["actions"]
        return actions

    def sh(self, number: int, command: str) -> str:
        """Run a command as root on a host, which must succeed; return its output."""
        ended = self.hosts[number].sh(command)
        assert ended.returncode == 0, f"{command}: {ended.returncode}\n{(ended.stdout + ended.stderr).decode()}"
        return ended.stdout.decode(errors="replace")


def undeployed(make: MakeHosts, folder: Path, count: int) -> Fleet:
    """Boot pristine hosts, and make a clone whose health check passes quickly."""
    hosts = make(count)
    clone = clones.make(folder, hosts.inventory)
    clones.two_workers(clone)
    clone.replace("service/service.yaml", "  settle: 2 ", "  settle: 0 ")
    return Fleet(clone, hosts, [])


def deployed(make: MakeHosts, folder: Path, count: int) -> Fleet:
    """Boot hosts as `undeployed` does, and deploy."""
    fleet = undeployed(make, folder, count)
    fleet.clone.done("deploy", "-H", "all")
    return fleet


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """Return one host that serves, for a module."""
    return deployed(module_hosts, tmp_path_factory.mktemp("fleet"), 1)
