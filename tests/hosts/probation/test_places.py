"""A probation beside another service's, and of a service without nginx."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.promises.words import HELD_BACK, NEIGHBOURS
from tests.support.clone import Clone, make
from tests.support.echo_service import deployed, put
from tests.support.front_door import release_of
from tests.support.hosts import Hosts

LOCAL = "127.0.0.1:8080"


def wait_until_decided(host: Hosts, name: str) -> None:
    """Wait for the host's decision about a service."""
    host[0].sh(f"flock -w 60 /run/{name}/lock/guard true", timeout=70)
    host[0].sh(f"while systemctl is-active '{name}-probation@*' | grep -qE '^(de)?activ'; do sleep 0.1; done")


def stop_trial(host: Hosts, name: str) -> None:
    """Kill the main process of the release on probation."""
    live = host[0].sh(f"basename $(readlink /run/{name}/live)").stdout.decode().strip()
    assert live in {"blue", "green"}
    host[0].sh(f"systemctl kill -s KILL --kill-who=main {name}@{live}.service")


@pytest.mark.promise(NEIGHBOURS, "two services are on probation at once, and one fails")
def test_each_service_has_a_probation_of_its_own(clone: Clone, one_host: Hosts, tmp_path: Path) -> None:
    first = {"env": {"TURN": "1"}, "probation": 600}
    second = {"name": "other", "nginx": {"server_name": "other.example"}, "env": {"TURN": "1"}, "probation": 12}
    deployed(clone, one_host, **first)
    other = make(tmp_path / "other")
    deployed(other, one_host, **second)
    address, old = one_host[0].address, clone.release()
    put(clone, **{**first, "env": {"TURN": "2"}}).done("deploy", "-H", "shire01")
    put(other, **{**second, "env": {"TURN": "2"}}).done("deploy", "-H", "shire01")
    assert (release_of(address), release_of(address, "other.example")) == (clone.release(), other.release())
    stop_trial(one_host, "myapp")
    wait_until_decided(one_host, "myapp")
    wait_until_decided(one_host, "other")
    assert (release_of(address), release_of(address, "other.example")) == (old, other.release())
    assert "did not hold its probation: the main process of the release died" in clone.fab("status").out
    shown = other.done("status", "--json").json()["hosts"][0]
    assert (shown["committed"], shown["state"]) == (other.release(), "healthy")


@pytest.mark.further("tests/hosts/probation/test_probation.py::test_what_fails_is_taken_back_by_the_host_alone")
@pytest.mark.promise(HELD_BACK, "a service without a gateway fails in its probation")
def test_without_a_gateway_the_host_goes_back_just_so(clone: Clone, one_host: Hosts) -> None:
    machine = one_host[0]
    machine.sh("dpkg --purge --force-depends $(dpkg-query -W -f '${Package} ' 'nginx*'); rm -rf /etc/nginx")
    internal = {"nginx": None, "listen": LOCAL, "probation": 600}

    def serves() -> str:
        return machine.sh(f"curl -sS --max-time 10 http://{LOCAL}/healthz").stdout.decode()

    deployed(clone, one_host, **internal, env={"TURN": "1"})
    old = clone.release()
    put(clone, **internal, env={"TURN": "2"}).done("deploy", "-H", "shire01")
    assert clone.release() in serves()
    stop_trial(one_host, "myapp")
    wait_until_decided(one_host, "myapp")
    assert old in serves()
    assert f"The host went back to {old} by itself" in clone.fab("status").out
