"""`listen:`, the internal stage: a TCP address of the service, without nginx or beside it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tasks.engine.sandbox import Machine
from tests.support.clone import Clone, make
from tests.support.echo_service import deployed, put
from tests.support.front_door import ask, release_of
from tests.support.hosts import Hosts, MakeHosts

LOCAL = "127.0.0.1:8080"


@pytest.fixture(scope="module")
def shire(module_hosts: MakeHosts) -> Hosts:
    """A host without nginx."""
    hosts = module_hosts()
    hosts[0].sh("dpkg --purge --force-depends $(dpkg-query -W -f '${Package} ' 'nginx*'); rm -rf /etc/nginx")
    return hosts


@pytest.fixture(scope="module")
def internal(shire: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that is deployed there without nginx."""
    return deployed(make(tmp_path_factory.mktemp("internal")), shire, nginx=None, listen=LOCAL, drain=3)


def inside(machine: Machine, path: str = "/healthz", *options: str, place: str = LOCAL) -> Any:
    """Return the answer that a program on the host gets."""
    answer = machine.sh(f"curl -sS --max-time 10 {' '.join(options)} http://{place}{path}")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


@contextmanager
def loaded(machine: Machine) -> Iterator[list[str]]:
    """Send twenty requests a second from inside, one connection each; yield the answers, filled at the block's end."""
    machine.sh("rm -f /tmp/answers /tmp/enough")
    client = (
        "until [ -e /tmp/enough ]; do curl -sS --max-time 10 http://127.0.0.1:8080/slow/0.2 >>/tmp/answers 2>&1"
        " || echo LOST >>/tmp/answers; done"
    )
    threads = [threading.Thread(target=machine.sh, args=(client, b"", 120)) for _ in range(4)]
    for thread in threads:
        thread.start()
    seen: list[str] = []
    try:
        yield seen
    finally:
        machine.sh("touch /tmp/enough")
        for thread in threads:
            thread.join()
        seen += [line for line in machine.sh("cat /tmp/answers").stdout.decode().splitlines() if line.strip()]


def test_a_host_without_nginx_serves_its_own_programs(internal: Clone, shire: Hosts) -> None:
    assert inside(shire[0])["release"] == internal.release()
    with pytest.raises(OSError, match="refused"):
        ask(shire[0].address, port=8080)
    assert shire[0].sh("command -v nginx; ls -d /etc/nginx").stdout == b""
    assert internal.done("health", "-H", "shire01").out.split()[-1] == "ok"


@pytest.mark.usefixtures("internal")
def test_nobody_on_tcp_is_believed_about_who_they_are(shire: Hosts) -> None:
    environment = inside(shire[0], "/environ")
    assert bytes.fromhex(environment["TRUSTED_PROXIES"]) == b"0"
    asked = f"curl -sS --max-time 10 -o /dev/null -w '%{{http_code}}' -H 'SCRIPT_NAME: /x' http://{LOCAL}/x/environ"
    assert shire[0].sh(asked).stdout == b"404"


def test_switches_lose_no_request(internal: Clone, shire: Hosts) -> None:
    first = internal.release()
    with loaded(shire[0]) as answers:
        put(internal, nginx=None, listen=LOCAL, drain=3, env={"CHANGED": "1"}).done("deploy", "-H", "shire01")
        changed = internal.release()
        internal.done("rollback", "-H", "shire01")
    wrong = [line for line in answers if "release" not in line]
    assert wrong == []
    assert {json.loads(line)["release"] for line in answers} == {first, changed}
    put(internal, nginx=None, listen=LOCAL, drain=3)


def test_an_operators_restart_and_a_reboot_bring_the_same_release_back(internal: Clone, shire: Hosts) -> None:
    machine = shire[0]
    assert machine.sh("systemctl restart myapp").returncode == 0
    assert (
        inside(machine, "/healthz", "--retry 20 --retry-connrefused --retry-delay 0")["release"] == internal.release()
    )
    machine.reboot()
    assert inside(machine)["release"] == internal.release()


def test_stop_closes_the_address_and_start_opens_it(internal: Clone, shire: Hosts) -> None:
    internal.done("stop", "-H", "shire01")
    assert shire[0].sh(f"curl -sS --max-time 5 http://{LOCAL}/healthz").returncode == 7
    internal.done("start", "-H", "shire01")
    assert inside(shire[0])["release"] == internal.release()


def test_another_address_is_taken_with_the_next_deploy(internal: Clone, shire: Hosts) -> None:
    machine = shire[0]
    elsewhere = f"{machine.address}:8081"
    put(internal, nginx=None, listen=elsewhere).done("deploy", "-H", "shire01")
    assert ask(machine.address, port=8081).json()["release"] == internal.release()
    assert machine.sh(f"curl -sS --max-time 5 http://{LOCAL}/healthz").returncode == 7
    put(internal, nginx=None, listen=LOCAL, drain=3).done("deploy", "-H", "shire01")
    assert inside(machine)["release"] == internal.release()


def test_an_address_that_another_program_holds_is_named_and_the_former_one_serves_on(
    internal: Clone, shire: Hosts
) -> None:
    machine, served = shire[0], internal.release()
    machine.sh("systemd-run --unit=squatter python3 -m http.server --bind 127.0.0.1 9090")
    machine.sh("until ss -Hltn 'sport = :9090' | grep -q .; do sleep 0.05; done")
    ended = put(internal, nginx=None, listen="127.0.0.1:9090").fab("deploy", "-H", "shire01")
    machine.sh("systemctl stop squatter")
    assert ended.status == 1
    assert "127.0.0.1:9090" in next(line for line in ended.out.splitlines() if "FAILED" in line)
    assert inside(machine)["release"] == served
    put(internal, nginx=None, listen=LOCAL, drain=3).done("deploy", "-H", "shire01")


def test_a_first_deploy_to_an_address_that_is_held_says_so(clone: Clone, one_host: Hosts) -> None:
    one_host[0].sh("systemd-run --unit=squatter python3 -m http.server --bind 127.0.0.1 8080")
    one_host[0].sh("until ss -Hltn 'sport = :8080' | grep -q .; do sleep 0.05; done")
    clone.inventory = one_host.inventory
    ended = put(clone, nginx=None, listen=LOCAL, drain=3).fab("deploy", "-H", "shire01")
    assert ended.status == 1
    assert LOCAL in next(line for line in ended.out.splitlines() if "FAILED" in line)
    one_host[0].sh("systemctl stop squatter")
    clone.done("deploy", "-H", "shire01")
    assert inside(one_host[0])["release"] == clone.release()


def test_the_gateway_and_the_address_serve_side_by_side_and_either_may_go(clone: Clone, one_host: Hosts) -> None:
    machine = one_host[0]
    deployed(clone, one_host, listen=LOCAL)
    assert release_of(machine.address) == inside(machine)["release"] == clone.release()
    note = f"`listen: {LOCAL}` stays open to clients that reach it"
    assert f"warning: {note}" in clone.done("maintenance", "on", "-H", "shire01").out
    assert (ask(machine.address).status, inside(machine)["release"]) == (503, clone.release())
    for words in (("maintenance", "status"), ("status",)):
        assert note in clone.done(*words, "-H", "shire01").out
    clone.done("maintenance", "off", "-H", "shire01")
    put(clone, nginx=None, listen=LOCAL, drain=3).done("deploy", "-H", "shire01")
    assert inside(machine)["release"] == clone.release()
    assert machine.sh("ls /etc/nginx/conf.d").stdout == b""
    with pytest.raises(OSError, match="refused"):
        ask(machine.address)
    put(clone).done("deploy", "-H", "shire01")
    assert release_of(machine.address) == clone.release()
    assert machine.sh(f"curl -sS --max-time 5 http://{LOCAL}/healthz").returncode == 7
    assert machine.sh("systemctl --failed --plain --no-legend").stdout == b""
