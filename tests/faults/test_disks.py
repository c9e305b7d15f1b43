"""The faults of a disk take effect, and end when it is mended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tasks.engine.sandbox import Machine
from tests.faults.disks import Disk, separate
from tests.support.hosts import MakeHosts

PLACES = ("/opt/apps", "/var", "/run")


@pytest.fixture(scope="module")
def disks(module_hosts: MakeHosts) -> dict[str, Disk]:
    """Two disks made for the test, and /run, which every host has."""
    machine = module_hosts()[0]
    machine.sh("mkdir -p /opt/apps/kept && echo text >/opt/apps/kept/file")
    return {path: Disk(machine, path) if path == "/run" else separate(machine, path) for path in PLACES}


@pytest.fixture(params=PLACES)
def disk(disks: dict[str, Disk], request: pytest.FixtureRequest) -> Iterator[Disk]:
    made = disks[request.param]
    written(made.machine, f"echo text >{made.path}/old")
    yield made
    written(made.machine, f"rm -f {made.path}/old* {made.path}/new*")


def written(machine: Machine, command: str) -> None:
    ended = machine.sh(f"sh -ec '{command}'")
    assert ended.returncode == 0, ended.stderr


def refused(disk: Disk, command: str) -> str:
    ended = disk.machine.sh(f"cd {disk.path} && {command}")
    assert ended.returncode != 0
    return ended.stderr.decode()


def test_a_full_disk_takes_no_byte_but_a_link(disk: Disk) -> None:
    disk.fill()
    assert "No space left" in refused(disk, "head -c 100 /dev/zero | tee new >/dev/null")
    assert "No space left" in refused(disk, "head -c 5000 /dev/zero | dd of=old oflag=append conv=notrunc")
    written(disk.machine, f"ln -s target {disk.path}/new-link")
    disk.mend()
    written(disk.machine, f"head -c 1000000 /dev/zero >{disk.path}/new")


def test_a_disk_without_inodes_takes_no_file_or_link_but_bytes(disk: Disk) -> None:
    disk.use_up_inodes()
    for make in ("touch new", "mkdir new", "ln -s target new"):
        assert "No space left" in refused(disk, make)
    written(disk.machine, f"head -c 5000 /dev/zero >>{disk.path}/old")
    disk.mend()
    written(disk.machine, f"touch {disk.path}/new")


def test_a_disk_that_is_read_only_takes_nothing_from_who_comes_now(disk: Disk) -> None:
    disk.make_read_only()
    for change in ("touch new", "rm old", "mv old new", "ln -s target new", "dd if=/dev/zero of=old count=1"):
        assert "Read-only file system" in refused(disk, change)
    disk.mend()
    written(disk.machine, f"rm {disk.path}/old && touch {disk.path}/new")


def test_what_was_there_stays_there_and_outlives_a_reboot(disks: dict[str, Disk]) -> None:
    machine = disks["/run"].machine
    machine.reboot()
    assert machine.sh("cat /opt/apps/kept/file").stdout == b"text\n"
    assert machine.sh("findmnt -n -o FSTYPE /opt/apps /var; systemctl is-system-running").stdout.endswith(b"running\n")
