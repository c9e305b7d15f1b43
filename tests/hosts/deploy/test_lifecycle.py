"""The life of a service beside its releases: stop, start, a stop that lasts, remove."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from tasks.engine.sandbox import Machine
from tests.support.clone import STOP_MARGIN, Clone, hurried, make
from tests.support.echo_service import deployed, put
from tests.support.front_door import ask, release_of
from tests.support.hosts import Hosts

STUBBORN = """
import signal

signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    signal.pause()
"""
WORKER = {"worker": {"command": "sleep infinity"}, "nightly": {"command": "true", "schedule": "daily"}}


@pytest.fixture(scope="module")
def standing(shire: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that is deployed there, with a worker and a timer."""
    return deployed(make(tmp_path_factory.mktemp("standing")), shire, processes=WORKER)


@pytest.fixture
def up(standing: Clone, shire: Hosts) -> Iterator[Clone]:
    """The clone of `standing`; after the test its service runs again."""
    yield standing
    if state(shire[0]) != "active":
        standing.done("start", "-H", "shire01")


def state(machine: Machine) -> str:
    """Return the state of all the service's units, in one word if they agree."""
    slot = machine.sh("basename $(readlink /opt/apps/myapp/current)").stdout.decode().strip()
    units = f"myapp.service myapp-worker@{slot}.service myapp-nightly.timer"
    states = machine.sh(f"systemctl is-active {units} myapp@{slot}.service myapp@{slot}.socket").stdout.decode().split()
    return states[0] if len(set(states)) == 1 else " ".join(states)


def is_closed(machine: Machine) -> bool:
    """Return true if no unit of the service answers, and a request does not start one."""
    answer = ask(machine.address)
    return answer.status == 502 and state(machine) == "inactive"


def test_stop_lets_requests_under_way_end_and_then_nothing_runs(up: Clone, shire: Hosts) -> None:
    answers: list[int] = []
    machine = shire[0]
    client = threading.Thread(target=lambda: answers.append(ask(machine.address, "/slow/2.0").status))
    client.start()
    machine.sh("until ss -Hx state connected src /run/myapp/blue.sock | grep -q ESTAB; do :; done")
    began = machine.sh("date +%s").stdout.decode().strip()
    ended = up.done("stop", "-H", "shire01")
    client.join()
    assert answers == [200]
    assert is_closed(machine)
    assert "a boot starts it again" in ended.out
    assert (
        "Stopped myapp" in machine.sh(f"journalctl --sync; journalctl -q -u 'myapp@*' --since @{began}").stdout.decode()
    )
    assert "STOPPED" in up.fab("status", "-H", "shire01").out
    up.done("start", "-H", "shire01")
    assert state(machine) == "active"
    assert release_of(machine.address) == up.release()


def test_a_stopped_service_comes_back_with_a_boot(up: Clone, shire: Hosts) -> None:
    up.done("stop", "-H", "shire01")
    shire[0].reboot()
    assert release_of(shire[0].address) == up.release()


def test_a_disabled_service_stays_down_over_a_boot_until_it_is_started(up: Clone, shire: Hosts) -> None:
    machine = shire[0]
    ended = up.done("stop", "-H", "shire01", "--disable")
    assert "a boot does not start it either" in ended.out
    machine.reboot()
    assert is_closed(machine)
    up.done("setup", "-H", "shire01")
    assert machine.sh("systemctl is-enabled myapp.service").stdout == b"disabled\n"
    up.done("start", "-H", "shire01")
    assert release_of(machine.address) == up.release()
    machine.reboot()
    assert release_of(machine.address) == up.release()
    assert state(machine) == "active"


def test_a_deploy_onto_a_disabled_service_starts_it_for_good_and_says_so(up: Clone, shire: Hosts) -> None:
    machine = shire[0]
    up.done("stop", "-H", "shire01", "--disable")
    ended = up.done("deploy", "-H", "shire01")
    assert "stopped" in ended.out
    assert "a boot starts it again" in ended.out
    assert release_of(machine.address) == up.release()
    told = machine.sh("systemctl is-enabled myapp.service myapp@blue.socket myapp-nightly.timer").stdout
    assert told == b"enabled\n" * 3


def test_systemctl_does_what_an_operator_expects(up: Clone, shire: Hosts) -> None:
    machine = shire[0]
    # Stopped by hand while the guard of the deploy before drains, the service would have to be recovered.
    machine.sh("flock /run/myapp/lock/guard true")
    assert machine.sh("systemctl stop 'myapp@*' myapp").returncode == 0
    assert ask(machine.address).status == 502
    assert machine.sh("systemctl start myapp").returncode == 0
    assert release_of(machine.address) == up.release()
    assert state(machine) == "active"
    main = machine.sh("systemctl show -p MainPID 'myapp@*.service'").stdout
    assert machine.sh("systemctl restart myapp").returncode == 0
    assert release_of(machine.address) == up.release()
    assert machine.sh("systemctl show -p MainPID 'myapp@*.service'").stdout != main
    assert "slot" in machine.sh("systemctl status --no-pager 'myapp@*'").stdout.decode()
    assert "myapp@*" in machine.sh("systemctl status --no-pager myapp").stdout.decode()
    # systemctl waits for the slot alone: the worker, which it restarts beside it, may still be the former one.
    jobs = "systemctl list-jobs --no-legend 'myapp*' | grep -q ."
    machine.sh(f"while {jobs}; do sleep 0.05; done")
    assert machine.sh("systemctl is-active -q 'myapp-worker@*'").returncode == 0
    told = up.done("deploy", "-H", "shire01").out
    assert "UNCHANGED" in told, told


def test_setup_again_changes_nothing(up: Clone, shire: Hosts) -> None:
    files = "find /etc /opt/apps/myapp -xdev -not -name '*.pyc' -not -path '*/systemd/*wants*' -type f"
    look = f"{files} ! -name README -printf '%p %T@ %i\\n' | sort; systemctl show -p MainPID nginx 'myapp@*'"
    before = shire[0].sh(look).stdout
    for _ in range(2):
        assert "nothing had to be written" in up.done("setup", "-H", "shire01").out
    after = shire[0].sh(look).stdout
    changed = set(after.splitlines()) ^ set(before.splitlines())
    assert {line.split()[0] for line in changed} <= {b"/etc/myapp/setup"}


def test_remove_asks_first_and_without_a_terminal_needs_a_yes(up: Clone, shire: Hosts) -> None:
    ended = up.fab("remove", "-H", "shire01")
    assert ended.status == 2
    assert "--yes" in ended.err
    assert release_of(shire[0].address) == up.release()


def test_remove_takes_everything_but_the_data_and_the_next_deploy_begins_anew(clone: Clone, one_host: Hosts) -> None:
    machine = one_host[0]
    before = paths_of_service(machine)
    clone.write("service/stubborn.py", STUBBORN)
    stubborn = {"command": "python stubborn.py", "stop": 300}
    deployed(hurried(clone), one_host, processes={**WORKER, "stubborn": stubborn})
    machine.sh("echo precious >/var/lib/myapp/file")
    assert machine.sh("ls -d /var/cache/myapp").returncode == 0
    # A process no longer in service.yaml that no setup has removed yet.
    ended = put(clone, drain=1).done("remove", "-H", "shire01", "--yes")
    assert f"did not stop within {1 + STOP_MARGIN} s" in ended.out
    left = paths_of_service(machine) - before
    assert {path for path in left if b"/var/lib/myapp" not in path} == {
        b"/opt/apps",
        b"/etc/myapp",
        b"/etc/myapp/setup",
    }
    assert machine.sh("cat /var/lib/myapp/file").stdout == b"precious\n"
    assert machine.sh("systemctl list-units --all --plain --no-legend 'myapp*'").stdout == b""
    assert machine.sh("pgrep -u myapp").stdout == b""
    assert machine.sh("systemctl is-active nginx").stdout == b"active\n"
    assert machine.sh("systemctl --failed --plain --no-legend").stdout == b""
    again = clone.fab("remove", "-H", "shire01", "--yes")
    assert again.status == 1
    assert "not set up" in again.out
    clone.done("deploy", "-H", "shire01")
    assert release_of(machine.address) == clone.release()
    assert machine.sh("cat /var/lib/myapp/file").stdout == b"precious\n"
    clone.done("remove", "-H", "shire01", "--yes", "--data")
    assert machine.sh("ls -d /var/lib/myapp; id -u myapp").stdout == b""


def paths_of_service(machine: Machine) -> set[bytes]:
    """Return every path where the service has put a file, or could have."""
    found = machine.sh(
        "find /etc /opt /run/myapp /var/lib /var/cache -xdev -not -path '/etc/.pwd.lock' -not -name '*-' | sort"
    )
    ignored = (
        b"/var/lib/nginx",
        b"/var/lib/systemd",
        b"/var/cache/ldconfig",
        b"/etc/systemd/system/multi-user.target.wants/nginx",
        b"/etc/rc",
    )
    return {path for path in found.stdout.splitlines() if not path.startswith(ignored)}


def test_an_account_of_a_person_is_not_made_the_services(clone: Clone, one_host: Hosts) -> None:
    one_host[0].sh("useradd --uid 1500 --create-home myapp")
    clone.inventory = one_host.inventory
    ended = put(clone).fab("deploy", "-H", "shire01")
    assert ended.status == 1
    assert "setup did not make it: an account myapp" in ended.out
    assert one_host[0].sh("ls -d /etc/myapp /opt/apps/myapp").stdout == b""


def test_what_is_asked_of_a_host_without_the_service_is_answered_in_words(clone: Clone, one_host: Hosts) -> None:
    clone.inventory = one_host.inventory
    put(clone)
    for verb in ("stop", "start", "rollback", "restart"):
        ended = clone.fab(verb, "-H", "shire01")
        assert ended.status == 1, verb
        assert "Traceback" not in ended.both
        told = next(line for line in ended.out.splitlines() if "FAILED" in line)
        assert "no release is committed" in told or "never set up" in told, told
    assert json.loads(clone.fab("status", "-H", "shire01", "--json").out)["hosts"][0]["state"] == "nothing deployed"
