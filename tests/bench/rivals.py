"""The peers, set up as their documentation shows."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.bench.contenders import HERE, Contender
from tests.bench.ground import Ground
from tests.support.clone import FAB


class Fabric(Contender):
    """The tutorial's fabfile."""

    actions = ("first", "code", "none", "dependency", "restart")
    pip = True

    def environment(self) -> Mapping[str, str]:
        hosts = " ".join(f"{address}:{port}" for address, port in self.ground.places)
        return {**super().environment(), "HOSTS": hosts, "IDENTITY": str(self.ground.identity)}

    def command(self, action: str) -> tuple[str, ...]:
        verb = "restart" if action == "restart" else "deploy"
        return (str(FAB), "--search-root", str(HERE / "peers"), verb)


class Ansible(Contender):
    """The playbook; with a strategy of Mitogen's where it names one. peers: the bin directory of a venv with them."""

    actions = ("first", "code", "none", "dependency", "restart")
    pip = True

    def __init__(
        self, name: str, folder: Path, ground: Ground, wheels: Path, *, peers: Path, mitogen: bool = False
    ) -> None:
        super().__init__(name, folder, ground, wheels)
        self._peers, self._mitogen = peers, mitogen

    def begin(self) -> None:
        super().begin()
        hosts = "".join(f"h{number}\n" for number in range(1, len(self.ground.machines) + 1))
        (self.project / "inventory").write_text(hosts)

    def environment(self) -> Mapping[str, str]:
        told = {
            "ANSIBLE_SSH_ARGS": f"-F {self.project}/ssh_config -o ControlMaster=auto -o ControlPersist=2s",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_FORKS": "30",
            "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
            "ANSIBLE_HOME": str(self.project / ".ansible"),
        }
        if self._mitogen:
            (found,) = self._peers.parent.glob("lib/python*/site-packages/ansible_mitogen/plugins/strategy")
            told |= {"ANSIBLE_STRATEGY_PLUGINS": str(found), "ANSIBLE_STRATEGY": "mitogen_linear"}
        return {**super().environment(), **told}

    def command(self, action: str) -> tuple[str, ...]:
        book = "restart" if action == "restart" else "playbook"
        given = f"name={self.name} project={self.project}"
        inventory = str(self.project / "inventory")
        return (str(self._peers / "ansible-playbook"), "-i", inventory, "-e", given, str(HERE / f"peers/{book}.yml"))


class Pyinfra(Contender):
    """The operations of pyinfra."""

    actions = ("first", "code", "none", "dependency", "restart")
    pip = True

    def __init__(self, name: str, folder: Path, ground: Ground, wheels: Path, *, peers: Path) -> None:
        super().__init__(name, folder, ground, wheels)
        self._peers, self._restarts = peers, False

    def begin(self) -> None:
        super().begin()
        known = {
            "ssh_config_file": str(self.project / "ssh_config"),
            "ssh_known_hosts_file": str(self.project / "known_hosts"),
        }
        hosts = [(f"h{number}", known) for number in range(1, len(self.ground.machines) + 1)]
        (self.project / "inventory.py").write_text(f"hosts = {hosts!r}\n")

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), **({"ONLY_RESTART": "1"} if self._restarts else {})}

    def command(self, action: str) -> tuple[str, ...]:
        self._restarts = action == "restart"
        deploy = str(HERE / "peers/pyinfra_deploy.py")
        return (str(self._peers / "pyinfra"), "-y", str(self.project / "inventory.py"), deploy)


class Capistrano(Contender):
    """A Capfile with its deploy.rb: releases, a shared venv, and a restart."""

    actions = ("first", "code", "none", "dependency", "rollback", "restart")
    pip = True

    def begin(self) -> None:
        super().begin()
        shutil.copytree(HERE / "peers/capistrano", self.project, dirs_exist_ok=True)
        stages = self.project / "config/deploy"
        stages.mkdir()
        numbers = range(1, len(self.ground.machines) + 1)
        servers = "".join(f'server "h{number}", user: "deploy", roles: %w[app]\n' for number in numbers)
        (stages / "production.rb").write_text(servers)

    def command(self, action: str) -> tuple[str, ...]:
        task = {"rollback": "deploy:rollback", "restart": "service:restart"}.get(action, "deploy")
        return ("cap", "production", task)
