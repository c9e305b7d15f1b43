"""docs/stages: one host walks through the files as they are; a request shows what each stage adds to the one before."""

from __future__ import annotations

import base64
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support import packages, pebble
from tests.support.certificates import Authority
from tests.support.clone import ROOT, make
from tests.support.front_door import NAME, ask
from tests.support.hosts import MakeHosts
from tests.support.site import Site
from tests.support.waiting import until

FILES = sorted((ROOT / "docs/stages").glob("*.yaml"))
ACME_PORT = 14000
PEOPLE = {"Authorization": f"Basic {base64.b64encode(b'ann:secret').decode()}"}
CLIENT = "203.0.113.9"


@dataclass
class Walk:
    """A host on its way.

    at: the number of the stage that is deployed, or 0. prepared: the last stage whose packages the host has.
    token: of the sample service, with the role operator.
    """

    site: Site
    own: Authority
    replaced: dict[str, str]
    at: int = 0
    prepared: int = 0
    token: str = ""

    def to(self, number: int) -> None:
        """Deploy a stage, unless it is deployed."""
        self.prepare(number)
        if number != self.at:
            self.write(number)
            self.site.done("deploy")
            self.at = number
            self.token = self.token or self.site.token("ci", "operator").strip()

    def write(self, number: int) -> None:
        """Make a stage's file that of the clone, and make the files that it names."""
        text = FILES[number - 1].read_text()
        for before, after in self.replaced.items():
            text = text.replace(before, after)
        self.site.clone.write("service/service.yaml", text)
        for name in ("tls/ca.pem", "tls/ca.key", "users.htpasswd"):
            self.site.clone.write(name, (self.own.folder / Path(name).name).read_text())
            (self.site.clone.root / name).chmod(0o600)

    def prepare(self, number: int) -> None:
        """Install the packages of the stages up to this one, as setup does on a host that reaches a mirror."""
        if self.prepared < 3 <= number:
            packages.install(self.site.machine, *packages.lacking(self.site.machine, "nginx"))
        if self.prepared < 5 <= number:
            pebble.install(self.site.machine, self.own.folder / "pebble", [NAME])
            pebble.start(self.site.machine, ACME_PORT, 90 * 86400)
            (self.own.folder / "public.pem").write_bytes(pebble.root(self.site.machine, ACME_PORT))
        self.prepared = max(number, self.prepared)

    def command(self, **how: Any) -> int | str:
        """Call the wrapped command with a token; return the status, or the reason why there is none."""
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            **how.pop("headers", {}),
        }
        return self.status(path="/commands/disk-usage", headers=headers, body=b'{"path": "/"}', **how)

    def status(self, **how: Any) -> int | str:
        """Ask the host from outside; return the status, or the reason why there is none."""
        try:
            return ask(self.site.machine.address, timeout=60, **how).status
        except ssl.SSLCertVerificationError:
            return "not trusted"
        except ConnectionRefusedError:
            return "refused"


@pytest.fixture(scope="module")
def walk(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """A host without nginx, and a clone of the sample service with files that a reader would make."""
    hosts = module_hosts()
    machine = hosts[0]
    machine.sh("dpkg --purge --force-depends $(dpkg-query -W -f '${Package} ' 'nginx*'); rm -rf /etc/nginx")
    own = Authority(tmp_path_factory.mktemp("own"))
    (own.folder / "users.htpasswd").write_text("ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
    replaced = {
        # The CA of this test, and this machine as the balancer.
        "{email: ops@myapp.example}": f"{{email: ops@myapp.example, directory: {pebble.directory(ACME_PORT)}}}",
        "10.0.0.0/8": machine.network.address(1),
    }
    return Walk(Site(make(tmp_path_factory.mktemp("stages"), hosts.inventory), machine), own, replaced)


def from_the_host(walk: Walk) -> object:
    """Return the status that a program on the host gets, and the one from outside."""
    told = walk.site.machine.sh("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/healthz").stdout
    return told.decode(), walk.command(port=8080)


def from_the_network(walk: Walk) -> object:
    """Return the status of a command over plain HTTP."""
    return walk.command(port=8080)


def encrypted(walk: Walk) -> object:
    """Return the status of a command over HTTPS, of a client that skips the warning, and the one over plain HTTP."""
    return walk.command(), walk.command(port=8080)


def trusted_and_asked(walk: Walk) -> object:
    """Return the status of a client without a password, and of one that has it and trusts the CA alone."""
    return walk.command(), walk.status(path="/", headers=PEOPLE, authority=walk.own.certificate)


def public(walk: Walk) -> object:
    """Return the status of a client that trusts the public CA alone, and has no password."""
    return walk.command(authority=walk.own.folder / "public.pem")


def balanced(walk: Walk) -> object:
    """Return the status of what a balancer hands on, and that of its health check, which has no name."""
    handed_on = walk.command(port=80, headers={"X-Forwarded-For": CLIENT, "X-Forwarded-Proto": "https"})
    with socket.create_connection((walk.site.machine.address, 80), timeout=60) as wire:
        wire.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        return handed_on, wire.makefile("rb").readline()[:12]


class Stage(NamedTuple):
    """A stage, by its number. asked: a question with the answer of the stage before, and that of this one."""

    number: int
    asked: Callable[[Walk], object]
    before: object
    now: object
    installs: tuple[str, ...] = ()


STAGES = (
    Stage(1, from_the_host, ("000", "refused"), ("200", "refused")),
    Stage(2, from_the_network, "refused", 200),
    Stage(3, encrypted, ("refused", 200), (200, "refused"), ("nginx",)),
    Stage(4, trusted_and_asked, (200, "not trusted"), (401, 200)),
    Stage(5, public, "not trusted", 200, ("certbot",)),
    # Without a name the distribution's own site answered.
    Stage(6, balanced, (301, b"HTTP/1.1 404"), (200, b"HTTP/1.1 200")),
)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: FILES[stage.number - 1].stem)
def test_a_stage_is_reached_from_the_one_before_and_adds_what_it_says(walk: Walk, stage: Stage) -> None:
    walk.to(stage.number - 1)
    walk.write(stage.number)
    planned = walk.site.done("plan").out
    assert "  setup (needs root)" in planned
    assert re.findall("^shire01    install (.*)", planned, re.MULTILINE) == list(stage.installs), planned
    walk.prepare(stage.number)
    before = stage.asked(walk)
    walk.to(stage.number)
    assert (before, stage.asked(walk)) == (stage.before, stage.now)
    assert "  setup (needs root)" not in walk.site.done("plan").out


def test_behind_the_balancer_the_log_has_the_clients_address(walk: Walk) -> None:
    walk.to(len(STAGES))
    balanced(walk)
    until(lambda: f'"remote": "{CLIENT}"' in walk.site.sh("journalctl -o cat -u 'myapp@*'"))
