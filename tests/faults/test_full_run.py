"""/run of a host is full, or has no inode left, in the moment when the traffic goes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.faults import matrix
from tests.faults.disks import Disk
from tests.promises.words import HELD_BACK, WHOLE
from tests.support.probation_site import NEVER, ProbationSite, site
from tests.support.site import Watch
from tests.support.state_check import settled_after

__all__ = ["site"]

FULL: dict[str, Callable[[Disk], None]] = {"no space": Disk.fill, "no inode": Disk.use_up_inodes}
DEPLOY = ("deploy", "-H", "shire01")
END = """
group=$(sed -n 's/.*"group":\\([1-9][0-9]*\\)}$/\\1/p' /run/myapp/lock/activate)
kill -- "-$group"
"""
"""Ends the program of a run, as a lost link does."""


@pytest.fixture
def run(site: ProbationSite) -> Iterator[Disk]:
    made = Disk(site.machine, "/run")
    yield made
    made.mend()


@pytest.mark.promise(WHOLE, "/run is full when a switch has to be taken back", part=1)
@pytest.mark.parametrize("how", FULL)
@pytest.mark.parametrize("step", ["checked", "switch", "front", "probation"])
def test_a_switch_is_taken_back(site: ProbationSite, run: Disk, step: str, how: str) -> None:
    """The traffic goes back, with files made before it came. Once: with no inode left in /run the traffic could not go
    back, and the slot that had it was stopped all the same.
    """
    old, new = site.deploy_committed(NEVER), site.edit()

    def end(_: object) -> None:
        FULL[how](run)
        site.sh(END)

    with Watch(site.machine.address) as watch:
        ended = matrix.run_stalled(site, DEPLOY, f"activate.{step}=stall", end)
        site.sh("flock -w 60 /run/myapp/lock/activate true")
    assert ended.status == 1, ended.both
    assert "Traceback" not in ended.both
    assert watch.seen <= {old, new}, ended.both
    assert site.answering == old
    run.mend()
    site.probation(0)
    settled_after(site, DEPLOY, site.clone.release())


@pytest.mark.further("test_a_switch_is_taken_back")
@pytest.mark.promise(HELD_BACK, "/run is full when a release has to go back", part=1)
@pytest.mark.parametrize("how", FULL)
def test_a_release_on_probation_is_taken_back(site: ProbationSite, run: Disk, how: str) -> None:
    """A worker of the release dies; the other worker answers throughout."""
    old, new = site.begin_probation()
    FULL[how](run)
    with Watch(site.machine.address) as watch:
        site.sh(f"main=$(systemctl show -p MainPID --value myapp@{site.other}.service);"
                ' pid=$(cut -d " " -f 1 "/proc/$main/task/$main/children"); kill -9 "$pid"')  # fmt: skip
        site.wait_until_decided()
    assert watch.seen <= {old, new}
    assert site.answering == old
    run.mend()
    site.probation(0)
    settled_after(site, DEPLOY, site.clone.release())
