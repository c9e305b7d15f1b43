"""A site whose releases are on probation, with an application that fails when a file on the host asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.clone import make, quicken
from tests.support.hosts import Hosts, MakeHosts
from tests.support.site import Site
from tests.support.state_check import check

YAML = "service/service.yaml"
NEVER = 600
"""Seconds of a probation that no test waits for."""
APP = """
import json, os, pathlib, time

HERE = os.environ["RELEASE"]
FAULT = pathlib.Path(os.environ["STATE_DIRECTORY"], f"fault-{HERE}")


def app(environ, start_response):
    fault = FAULT.read_text() if FAULT.exists() else ""
    if fault == "hangs" or environ["PATH_INFO"] == "/hangs":
        time.sleep(60)
    if fault == "is slow":
        time.sleep(8)
    if fault == "takes its time":
        time.sleep(3)
    if fault == "flaps":
        fault = "says 500" if os.times().elapsed % 2.2 < 1.1 else ""
    body = json.dumps({"release": "0123456789ab" if fault == "is another" else HERE, "edition": EDITION}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response("500 No" if fault == "says 500" else "200 OK", headers)
    return [body]


"""


class ProbationSite(Site):
    """A site that `deploy` leaves on probation; the host decides about later faults."""

    def edit(self) -> str:
        """Edit it, small enough to be sent at once."""
        self._editions += 1
        self.clone.write("service/under_test.py", f"{APP}EDITION = {self._editions}\n")
        return self.clone.release()

    def probation(self, seconds: int) -> None:
        """Set the probation of the next releases."""
        text = self.read(YAML).splitlines()
        self.clone.write(YAML, "".join(f"probation: {seconds}\n" if line.startswith("probation:") else f"{line}\n"
                                       for line in text))  # fmt: skip

    def deploy_committed(self, seconds: int = 0) -> str:
        """Deploy and commit a release; seconds: the probation of later ones."""
        self.probation(0)
        release = self.deploy()
        self.probation(seconds)
        return release

    def begin_probation(self, seconds: int = NEVER) -> tuple[str, str]:
        """Return the committed release, and another one on probation with the traffic."""
        old, new = self.deploy_committed(seconds), self.edit()
        self.done("deploy")
        assert self.answering == new
        assert self.on_probation
        return old, new

    @property
    def on_probation(self) -> bool:
        """Return true if the traffic goes to another slot than after a boot."""
        return self.sh("readlink /run/myapp/live") != self.slot

    def set_fault(self, release: str, words: str) -> None:
        """Give a release a fault from now on; empty: none."""
        self.sh(f"printf %s '{words}' >/var/lib/myapp/fault-{release}.new; cd /var/lib/myapp;"
                f" mv fault-{release}.new fault-{release}")  # fmt: skip

    def end_probation(self) -> None:
        """Let the probation end now: its guard reads the end anew when systemd starts it again."""
        self.sh("awk '{ print int($1 * 100) }' /proc/uptime >/run/myapp/ctl/probation/until")
        self.kill_until_restarted(f"myapp-probation@{self.other}.service")

    def wait_until_decided(self) -> None:
        """Wait until the host has decided, and completed the consequences."""
        self.await_guards()

    def require_returned(self, old: str, new: str) -> str:
        """Assert that the host went back by itself, reports it, and is whole; return the reason."""
        self.wait_until_decided()
        assert check(self, old) == old
        self.settled()
        assert self.outcomes[-1][1:] == (new, "returned")
        why = str(self.history[-1]["why"])
        told = self.clone.fab("status")
        assert f"{new} did not hold its probation: {why}" in told.out
        assert f"The host went back to {old} by itself" in told.out
        assert self.status_line["last_action"]["why"] == why
        return why

    @property
    def status_line(self) -> Mapping[str, Any]:
        """Return the host's entry of `fab status --json`."""
        (line,) = self.fab("status", "--json").json()["hosts"]
        found: Mapping[str, Any] = line
        return found


def trial(hosts: Hosts, folder: Path) -> ProbationSite:
    """Deploy and commit a release."""
    made = ProbationSite(make(folder, hosts.inventory), hosts[0])
    quicken(made.clone)
    made.clone.replace(YAML, '"app:create_app()"', '"under_test:app"')
    made.clone.replace(YAML, "drain: 30", "drain: 2")
    made.deploy_committed()
    return made


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> ProbationSite:
    """The site of a module."""
    return trial(module_hosts(), tmp_path_factory.mktemp("trial"))
