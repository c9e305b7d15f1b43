"""A deploy to a host whose disk becomes full, runs out of inodes, or rejects writes, at one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.faults.disks import Disk, separate
from tests.faults.moments import MOMENTS, strike
from tests.promises.words import WHOLE
from tests.support.clone import make, quicken
from tests.support.hosts import MakeHosts
from tests.support.site import ROOT, Site, Watch
from tests.support.state_check import check, settled_after

PLACES = ("/opt/apps", "/var", "/run")
DEPLOY = ("deploy", "-H", "shire01")


@pytest.fixture(scope="module")
def broken(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, dict[str, Disk]]:
    """A host that serves, and those of its disks that the tests break."""
    hosts = module_hosts()
    disks = {path: Disk(hosts[0], path) if path == "/run" else separate(hosts[0], path) for path in PLACES}
    site = Site(make(tmp_path_factory.mktemp("disks"), hosts.inventory), hosts[0])
    quicken(site.clone)
    site.clone.replace("service/service.yaml", "threads: 1}", "threads: 1}\n  clock: {command: sleep 1d}")
    site.deploy()
    return site, disks


@pytest.fixture(params=PLACES)
def disk(broken: tuple[Site, dict[str, Disk]], request: pytest.FixtureRequest) -> Iterator[tuple[Site, Disk]]:
    site, disks = broken
    yield site, disks[request.param]
    disks[request.param].mend()


def tried(site: Site, disk: Disk, moment: str, fault: Callable[[], None]) -> None:
    """Deploy with a disk that breaks at a moment; then mend it, and deploy again."""
    old, new = site.answering, site.edit()
    with Watch(site.machine.address) as watch:
        ended = strike(site.clone, DEPLOY, moment, fault)
    assert "Traceback" not in ended.out
    # With a broken disk the host still serves, and the run reports that.
    assert watch.seen <= {old, new}, ended.out
    assert site.answering in {old, new}
    if ended.status == 0:
        assert site.answering == new, ended.out
    else:
        assert f"serves now: release {site.answering}" in ended.out, ended.out
    disk.mend()
    check(site, old, new)
    assert settled_after(site, DEPLOY, new) == new


@pytest.mark.promise(WHOLE, "the disk is full from a step on", part=1)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_full_disk_never_costs_the_release_that_serves(disk: tuple[Site, Disk], moment: str) -> None:
    site, broken = disk
    tried(site, broken, moment, broken.fill)


@pytest.mark.further("test_a_full_disk_never_costs_the_release_that_serves")
@pytest.mark.promise(WHOLE, "no inode is left from a step on", part=1)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_disk_without_inodes_never_costs_the_release_that_serves(disk: tuple[Site, Disk], moment: str) -> None:
    site, broken = disk
    tried(site, broken, moment, broken.use_up_inodes)


@pytest.mark.promise(WHOLE, "the file system is read-only from a step on", part=1)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_read_only_disk_never_costs_the_release_that_serves(disk: tuple[Site, Disk], moment: str) -> None:
    site, broken = disk
    tried(site, broken, moment, broken.make_read_only)


def test_what_fills_the_disk_can_be_ended(broken: tuple[Site, dict[str, Disk]]) -> None:
    """With no byte of room left for the history, a stop and --stop-first still work. Once: a release that filled the
    disk could be neither stopped nor taken back.
    """
    site, disks = broken
    old, new = site.deploy(), site.deploy()
    page = f"n=$(stat -c %s {ROOT}/history.jsonl); printf '%*s\\n' $((4096 - n % 4096 - 1)) '' >>{ROOT}/history.jsonl"
    site.sh(page)
    disks["/opt/apps"].fill()
    try:
        told = site.clone.done("rollback", "-H", "shire01", "--to", old, "--stop-first").both
        assert "this is not in the history" in told
        assert site.answering == old != new
        told = site.clone.done("stop", "-H", "shire01").both
        assert "this is not in the history" in told
        assert site.sh("pgrep -u myapp || :") == ""
    finally:
        disks["/opt/apps"].mend()
    site.clone.done("start", "-H", "shire01")
    assert site.answering == old
