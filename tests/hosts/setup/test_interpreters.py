"""An interpreter that the service cannot run, or that other accounts can change, is refused before any change."""

from __future__ import annotations

import pytest
import yaml

from tests.support.clone import Clone, make
from tests.support.echo_service import description, put
from tests.support.front_door import release_of
from tests.support.hosts import Hosts

COPY = "install -D -m 0755 $(readlink -f /usr/bin/python3) "


@pytest.fixture(scope="module")
def clone(shire: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that is deployed there."""
    made = put(make(tmp_path_factory.mktemp("interpreters"), shire.inventory))
    made.done("deploy", "-H", "shire01")
    return made


def name_python(hosts: Hosts, path: str | None) -> None:
    """Name this interpreter in hosts.yaml."""
    text = yaml.safe_load(hosts.inventory.read_text())
    (host,) = text["hosts"].values()
    host.pop("python", None)
    host.update({} if path is None else {"python": path})
    hosts.inventory.write_text(yaml.safe_dump(text))


@pytest.mark.parametrize(
    ("made", "path", "told"),
    [
        (COPY + "/home/bob/bin/python3.11", "/home/bob/bin/python3.11", "it lies below /home, which"),
        (
            COPY + "/home/bob/bin/python3.11; ln -sf /home/bob/bin/python3.11 /usr/local/bin/python3.15",
            "python3.15",
            "/usr/local/bin/python3.15: it lies below /home, which",
        ),
        (
            COPY + "/opt/loose/python3.11; chmod 0777 /opt/loose",
            "/opt/loose/python3.11",
            "others than root and the deploy account may change /opt/loose",
        ),
        (
            COPY + "/opt/bobs/python3.11; chown games /opt/bobs",
            "/opt/bobs/python3.11",
            "others than root and the deploy account may change /opt/bobs",
        ),
        (
            COPY + "/opt/many/python3.11; chgrp games /opt/many; chmod 0775 /opt/many",
            "/opt/many/python3.11",
            "others than root and the deploy account may change /opt/many",
        ),
        (
            COPY + "/opt/mine/python3.11; chown -R deploy /opt/mine; chmod 0700 /opt/mine",
            "/opt/mine/python3.11",
            "the service's user has no right to /opt/mine",
        ),
    ],
)
def test_one_that_the_service_cannot_run_is_refused_by_doctor_plan_and_deploy(
    clone: Clone, shire: Hosts, made: str, path: str, told: str
) -> None:
    """Once: an interpreter in a home directory was chosen, and the slot did not start, without a reason."""
    machine = shire[0]
    before = release_of(machine.address)
    assert machine.sh(made).returncode == 0
    try:
        name_python(shire, path)
        clone.write("service/edition.txt", path + made)
        for verb in ("doctor", "plan", "deploy"):
            ended = clone.fab(verb, "-H", "shire01")
            assert (ended.status, told in ended.both) == (1, True), f"{verb}: {ended.both}"
            assert "`python:` in hosts.yaml" in ended.both
        assert release_of(machine.address) == before
    finally:
        name_python(shire, None)
        machine.sh("rm -rf /home/bob /opt/loose /opt/bobs /opt/many /opt/mine /usr/local/bin/python3.15")
    assert clone.done("doctor", "-H", "shire01").out.startswith("shire01  ready\n")


OLD = "echo Python 3.6.8; exit 1"


@pytest.mark.parametrize(("made", "told"), [
    ("", "the host has none there"),
    (f"printf '#!/bin/sh\\n{OLD}\\n' >/usr/bin/python3; chmod 755 /usr/bin/python3", "Python 3.6.8 (/usr/bin/python3)"),
])  # fmt: skip
def test_a_host_without_a_python_says_what_to_do(clone: Clone, shire: Hosts, made: str, told: str) -> None:
    """The program itself needs one before it can report facts; the service keeps running."""
    machine = shire[0]
    away = "mkdir /usr/hidden && mv /usr/bin/python3* /usr/hidden/"
    assert machine.sh(f"{away}; {made or 'true'}").returncode == 0
    before = release_of(machine.address)
    try:
        for verb in ("doctor", "plan", "deploy", "setup", "status", "rollback"):
            ended = clone.fab(verb, "-H", "shire01")
            assert (ended.status, "Traceback" in ended.both) == (1, False), f"{verb}: {ended.both}"
            assert "this needs Python 3.9 or newer in /usr/bin or /usr/local/bin" in ended.both, ended.both
            assert told in ended.both
            assert "apt-get install python3" in ended.both
        assert release_of(machine.address) == before
    finally:
        machine.sh("rm -f /usr/bin/python3; mv /usr/hidden/* /usr/bin/; rmdir /usr/hidden")
    assert clone.done("doctor", "-H", "shire01").out.startswith("shire01  ready\n")


def test_one_in_a_home_serves_where_the_sandbox_opens_homes(clone: Clone, shire: Hosts) -> None:
    machine = shire[0]
    machine.sh(COPY + "/home/deploy/bin/python3.11; chown -R deploy /home/deploy; chmod 0755 /home/deploy")
    name_python(shire, "/home/deploy/bin/python3.11")
    try:
        clone.write("service/service.yaml", description(needs=["home"]))
        clone.done("deploy", "-H", "shire01")
        assert release_of(machine.address) == clone.release()
    finally:
        name_python(shire, None)
