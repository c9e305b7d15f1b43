"""The whole loop on each systemd, Python and nginx that the controller's distribution offers."""

from __future__ import annotations

import pytest

from tests.support.clone import Clone
from tests.support.front_door import ask, release_of
from tests.support.hosts import MakeHosts
from tests.support.suites import suites


@pytest.mark.parametrize("suite", suites())
def test_the_whole_loop_runs(clone: Clone, hosts: MakeHosts, suite: str | None) -> None:
    fleet = hosts(1, suite)
    machine = fleet[0]
    clone.inventory = fleet.inventory
    clone.done("deploy", "-H", "shire01")
    first = clone.release()
    assert release_of(machine.address) == first

    clone.write("service/changed.txt", "changed\n")
    clone.done("deploy", "-H", "shire01")
    second = clone.release()
    assert release_of(machine.address) == second != first
    clone.write("service/app/broken.py", "import nothing_of_that_name\n")
    clone.replace("service/app/__init__.py", "from flask import Flask", "from flask import Flask\nfrom . import broken")
    assert clone.fab("deploy", "-H", "shire01").status == 1
    assert release_of(machine.address) == second

    clone.done("rollback", "-H", "shire01")
    assert release_of(machine.address) == first
    machine.reboot()
    assert release_of(machine.address) == first
    clone.done("stop", "-H", "shire01")
    assert ask(machine.address).status == 502
    clone.done("start", "-H", "shire01")
    assert release_of(machine.address) == first
    security = machine.sh("systemd-analyze security --no-pager myapp@blue.service | tail -n 1").stdout.decode()
    assert float(security.split("myapp@blue.service:")[1].split()[0]) <= 1.0, security
    assert machine.sh("systemctl --failed --plain --no-legend").stdout == b""
