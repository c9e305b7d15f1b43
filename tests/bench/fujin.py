"""Fujin as a peer: a package built here, and a project around it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.bench.contenders import HERE, Contender
from tests.bench.ground import Ground

_PROJECT = """\
app = "%(name)s"
python_version = "3.11"
# Hosts are deployed to side by side, and each deploy builds: none sees a wheel that is half written.
build_command = "uv build -q --offline --wheel -o .dist.$$ && mv .dist.$$/*.whl dist/ && rm -r .dist.$$"
distfile = "dist/%(name)s-{version}-py3-none-any.whl"
requirements = "../requirements.txt"
installation_mode = "python-package"

[hooks]
post_start = ["until curl -sf -o /dev/null --cacert /etc/ssl/%(name)s/cert.pem \
--resolve %(name)s.example:443:127.0.0.1 https://%(name)s.example/readyz; do sleep 0.05; done"]
"""
_HOST = """
[[hosts]]
name = "h{number}"
address = "{address}"
port = {port}
user = "deploy"
key_filename = "{identity}"
"""
_PACKAGE = """\
[project]
name = "{name}"
version = "0.1.{edition}"
requires-python = ">=3.11"
dependencies = ["flask", "gunicorn"]

[build-system]
requires = ["uv_build>=0.9,<0.14"]
build-backend = "uv_build"

[tool.uv.build-backend]
module-name = "app"
module-root = ""
"""
_WIPE = """systemctl disable -q --now %(name)s-web 2>/dev/null
rm -rf /opt/fujin /root/.cache/uv /home/deploy/.local/bin/uv* /etc/systemd/system/%(name)s-web.service
groupdel fujin 2>/dev/null || :"""


class Fujin(Contender):
    """`fujin deploy` on each host, and its own verbs. Its restart asks systemd alone."""

    def __init__(self, name: str, folder: Path, ground: Ground, wheels: Path, *, peers: Path) -> None:
        super().__init__(name, folder, ground, wheels)
        self._peers = peers

    def begin(self) -> None:
        super().begin()
        shutil.copy(Path(sys.executable).with_name("uv"), self.project / "uv")
        unit = (self.project / f"setup/{self.name}.service").read_text()
        unit = unit.replace(f"/srv/{self.name}/current/venv", "{install_dir}/.venv")
        systemd = self.code / ".fujin/systemd"
        systemd.mkdir(parents=True)
        (systemd / "web.service").write_text(unit.replace(f"/srv/{self.name}/current/code", "{app_dir}"))
        hosts = "".join(
            _HOST.format(number=number, address=address, port=port, identity=self.ground.identity)
            for number, (address, port) in enumerate(self.ground.places, 1)
        )
        (self.code / "fujin.toml").write_text(_PROJECT % {"name": self.name} + hosts)
        (self.code / "dist").mkdir()
        self._number()

    def edit(self) -> None:
        super().edit()
        self._number()

    def _number(self) -> None:
        """Give each change a version: Fujin keeps one bundle per version, and rolls back to the one before."""
        (self.code / "pyproject.toml").write_text(_PACKAGE.format(name=self.name, edition=self.edition))

    def wipe(self) -> None:
        for machine in self.ground.machines:
            machine.sh(_WIPE % {"name": self.name})
        super().wipe()
        shutil.rmtree(self.project / ".sent", ignore_errors=True)

    def environment(self) -> Mapping[str, str]:
        given = super().environment()
        return {**given, "PATH": f"{self._peers}:{Path(sys.executable).parent}:{given['PATH']}"}

    def command(self, action: str) -> tuple[str, ...]:
        verb = action if action in {"rollback", "restart", "status"} else "deploy"
        hosts = [f"h{number}" for number in range(1, len(self.ground.machines) + 1)]
        return ("sh", str(HERE / "peers/fujin/fujin.sh"), verb, str(self.project), *hosts)
