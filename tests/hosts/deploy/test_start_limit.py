"""systemd's start limit on a real host: our starts never reach it, and earlier ones are reset in time."""

from __future__ import annotations

import pytest

from tests.support.clone import Clone, make, quicken
from tests.support.front_door import release_of
from tests.support.hosts import Hosts

ROOT = "/opt/apps/myapp"
REST = "flock /run/myapp/lock/guard true"


@pytest.fixture(scope="module")
def quick(shire: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that is deployed there, with no waits."""
    clone = make(tmp_path_factory.mktemp("quick"), shire.inventory)
    quicken(clone)
    clone.done("deploy", "-H", "shire01")
    return clone


@pytest.mark.further(
    "tests/hosts/service/test_processes.py::test_however_quickly_deploys_come_workers_and_timers_are_up_afterwards"
)
def test_more_restarts_than_systemd_would_have_in_a_minute(quick: Clone, shire: Hosts) -> None:
    """systemd would refuse the sixth start of each slot; after all of them it still restarts a process that dies."""
    for _ in range(12):
        quick.done("restart", "-H", "shire01")
    machine = shire[0]
    slot = machine.sh(f"readlink {ROOT}/current").stdout.decode().strip().rpartition("/")[2]
    machine.sh(f"{REST}; systemctl kill -s KILL --kill-who=main myapp@{slot}.service")
    show = f"systemctl show -p NRestarts --value myapp@{slot}.service"
    again = machine.sh(f"for _ in $(seq 500); do [ $({show}) = 0 ] || exit 0; sleep 0.02; done; exit 1")
    assert again.returncode == 0
    assert release_of(shire[0].address) == quick.release()


def test_a_slot_that_came_to_its_limit_by_hand_takes_the_next_release(quick: Clone, shire: Hosts) -> None:
    """Its link is older than the minute in which starts are reset first, so systemd refuses the first start."""
    machine = shire[0]
    current = machine.sh(f"{REST}; readlink {ROOT}/current").stdout.decode().strip().rpartition("/")[2]
    idle = {"blue": "green", "green": "blue"}[current]
    units = f"myapp@{idle}.service myapp@{idle}.socket"
    machine.sh(f"""systemctl reset-failed
    for _ in 1 2 3 4 5 6; do
      touch /run/myapp/try/{idle}
      systemctl start myapp@{idle}.service
      systemctl stop {units}
    done
    rm -f /run/myapp/try/{idle}
    touch -h -d '-2 minutes' {ROOT}/slots/{idle}/release""")
    assert b"start-limit-hit" in machine.sh(f"systemctl show -p Result {units}").stdout
    quick.done("restart", "-H", "shire01")
    assert machine.sh(f"readlink {ROOT}/current").stdout.decode().strip() == f"slots/{idle}"
    assert release_of(machine.address) == quick.release()
