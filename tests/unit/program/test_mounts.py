"""What an account has mounted in its directories: root waits for it no longer than it says, and takes it away."""

from __future__ import annotations

import ctypes
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

import pytest

from templates.host import accounts, handover, mounts, processes, programs, remove
from templates.host.accounts import Account
from templates.host.mounts import Mount
from templates.host.record import Record
from templates.host.run import Refused, Run
from tests.support import hung_mount

LINES = rb"""20 1 8:1 / / rw - ext4 /dev/sda1 rw
30 20 0:40 / /opt/apps/shop rw,nosuid - fuse /dev/fuse rw,user_id=1000,group_id=1000
31 20 0:41 / /opt/apps/shop/a\040b\012c rw shared:7 - fuse.sshfs x: rw,user_id=1001,group_id=1001,max_read=9
32 20 0:42 / /opt/apps/shop/roots rw - fuse.glusterfs x rw,user_id=0,group_id=0,allow_other
33 20 0:43 / /opt/apps/shopping rw - fuse /dev/fuse rw,user_id=1000,group_id=1000
34 20 0:44 / /opt/apps/shop/disk rw - ext4 /dev/sdb1 rw,user_id=1000
35 20
36 20 0:45 / /home/ann/CR- rw,nosuid - fuse x rw,user_id=1002,group_id=1002
37 20 0:46 / /opt/apps/shop/CRd rw,nosuid - fuse x rw,user_id=1003,group_id=1003
""".replace(b"CR", b"\r")


@pytest.fixture
def run() -> Run:
    made = Run(("n", "20260101T000000-abc123", "{}", ""), {"name": "shop"}, io.BytesIO())
    made.in_words = True
    return made


@pytest.fixture
def hung() -> Iterator[str]:
    """Return a directory at which the account `nobody` has mounted what never answers."""
    with tempfile.TemporaryDirectory() as above:
        # The account must reach it.
        Path(above).chmod(0o711)
        place, of = Path(above, "place"), _nobody()
        place.mkdir()
        with hung_mount.mounted(str(place), of.uid, of.gid):
            yield str(place)


def _nobody() -> Account:
    nobody = accounts.find("nobody")
    assert nobody
    return nobody


def test_mounts_of_other_accounts_are_found_the_newest_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Once: a carriage return in the path of a mount, of any account anywhere, ended each step of root's."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self/mountinfo").write_bytes(LINES)
    monkeypatch.setattr(mounts, "PROC", str(tmp_path))
    theirs = [
        Mount("/opt/apps/shop/\rd", 1003, "37"),
        Mount("/opt/apps/shop/a b\nc", 1001, "31"),
        Mount("/opt/apps/shop", 1000, "30"),
    ]
    assert mounts.found("/opt/apps/shop", "/run/shop") == theirs
    assert mounts.found("/opt/apps/sho", "/run/shop") == []


def test_a_process_that_no_signal_ends_is_not_waited_for(hung: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: root's drift, facts and setup of an account with such a file system never ended."""
    monkeypatch.setattr(programs, "DEATH", 0.2)
    began = time.monotonic()

    def work(_: BinaryIO) -> None:
        list(Path(hung).iterdir())

    with pytest.raises(OSError, match="the work took longer than"):
        accounts.as_account(_nobody(), work, 0.3, 100)
    assert time.monotonic() - began < 5


def test_a_process_that_outlives_us_holds_nothing_of_ours_open() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another account")
    kept = os.open(os.devnull, os.O_RDONLY)

    def work(file: BinaryIO) -> None:
        found = list(Path("/proc/self/fd").iterdir())
        names = sorted(str(one.readlink()).partition(":")[0] for one in found if one.is_symlink() and one.exists())
        file.write(" ".join(name for name in names if not name.startswith("/proc/")).encode())

    try:
        assert accounts.as_account(_nobody(), work, 30, 1000) == b"/dev/null /dev/null /dev/null pipe"
    finally:
        os.close(kept)


def test_who_is_hidden_by_a_mount_is_a_former_account(hung: str) -> None:
    new = Account("new", 4999, 4999)
    with pytest.raises(PermissionError):
        os.lstat(hung)
    assert handover.formers(Record("shop"), hung, new) == {_nobody().uid}
    assert handover.formers(Record("shop"), hung, _nobody()) == set()


def test_a_mount_of_an_account_is_taken_away(hung: str, run: Run) -> None:
    assert remove._is_there(hung)
    assert not remove._is_there(f"{hung}-none")
    with pytest.raises(Refused, match=f"at {hung}: fab setup --as root takes it away"):
        mounts.refuse(hung)
    mounts.require_none(run, hung)
    mounts.refuse(hung)
    assert list(Path(hung).iterdir()) == []


def test_what_an_account_has_mounted_anywhere_is_taken_away(hung: str, run: Run) -> None:
    mounts.detach_all_of(run, _nobody().uid + 1)
    assert [mount[:2] for mount in mounts.found(hung)] == [(hung, _nobody().uid)]
    mounts.detach_all_of(run, _nobody().uid)
    assert mounts.found(hung) == []


def test_root_unmounts_what_it_has_found_and_not_what_a_path_leads_to_now(
    hung: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: the account put a link in the place of a directory above, and root took away a file system of others."""
    above = Path(hung).parent / "above"
    victim = above.with_name("victim")
    for folder in (above / "place", victim / "place"):
        folder.mkdir(parents=True)
    libc, real = ctypes.CDLL(None), mounts.found

    def exchanged(*places: str) -> list[Mount]:
        mounted = real(*places)
        if not above.is_symlink():
            above.rename(f"{above}-aside")
            above.symlink_to(victim)
        return mounted

    nobody = _nobody()
    with hung_mount.mounted(str(above / "place"), nobody.uid, nobody.gid):
        try:
            assert not libc.mount(b"tmpfs", str(victim / "place").encode(), b"tmpfs", 0, b"")
            (victim / "place/data").touch()
            monkeypatch.setattr(mounts, "found", exchanged)
            mounts.detach(run, str(above))
            assert (victim / "place/data").exists()
            assert [mount.path for mount in real(f"{above}-aside")] == [f"{above}-aside/place"]
            mounts.require_none(run, f"{above}-aside")
            assert real(f"{above}-aside") == []
        finally:
            libc.umount2(str(victim / "place").encode(), hung_mount.FORCE_AND_DETACH)


def test_an_account_that_mounts_again_and_again_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "found", lambda *_: [Mount("/opt/apps/shop", 1000, "30")])
    with pytest.raises(Refused, match="lock the account with the uid 1000"):
        mounts.require_none(run, "/opt/apps/shop")


# Arguments: a directory, three uids. The third one mounts it where root sees no mount, and the first one waits there.
# The second one has the descriptor by which it would answer.
ACCOMPLICE = """
import ctypes, os, struct, sys
where, former, other, maker = sys.argv[1], *map(int, sys.argv[2:])
libc = ctypes.CDLL(None, use_errno=True)
fuse = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fuse},rootmode=40000,user_id={maker},group_id=0,allow_other"
if libc.unshare(0x20000) or libc.mount(b"", b"/", None, 0x44000, None):
    sys.exit("no mount namespace")
if libc.mount(b"fuse", where.encode(), b"fuse", 6, options.encode()):
    sys.exit("no FUSE")
number = struct.unpack("IIQ", os.read(fuse, 1 << 20)[:16])[2]
answer = struct.pack("IIIIHHIIHH8I", 7, 31, 0, 0, 16, 12, 1 << 17, 1, 0, 0, *[0] * 8)
os.write(fuse, struct.pack("IiQ", 16 + len(answer), 0, number) + answer)
waits = os.fork()
os.setresuid(*[other if waits else former] * 3)
if waits == 0:
    os.close(fuse)
    os.listdir(where)
os.read(fuse, 1 << 20)
print("waits", flush=True)
os.waitpid(waits, 0)
print("ended", flush=True)
"""


@pytest.fixture
def connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The kernel's list of what is mounted by FUSE, which systemd mounts on a host."""
    libc, place = ctypes.CDLL(None), tmp_path / "connections"
    place.mkdir()
    monkeypatch.setattr(processes, "_CONNECTIONS", str(place))
    if os.geteuid() != 0 or libc.mount(b"", bytes(place), b"fusectl", 0, None):
        pytest.skip("only root can mount, where the kernel has FUSE")
    try:
        yield
    finally:
        libc.umount2(bytes(place), hung_mount.FORCE_AND_DETACH)


@contextmanager
def waiting(former: int, maker: int) -> Iterator[IO[bytes]]:
    """A process of an account waits for what another one, or the same, has mounted; yield what tells its end."""
    with tempfile.TemporaryDirectory() as above:
        Path(above).chmod(0o711)
        place = Path(above, "place")
        place.mkdir()
        words = (sys.executable, "-I", "-S", "-c", ACCOMPLICE, str(place), *map(str, (former, former + 10_000, maker)))
        with subprocess.Popen(words, stdout=subprocess.PIPE) as accomplice:
            assert accomplice.stdout
            try:
                if accomplice.stdout.readline() != b"waits\n":
                    pytest.skip("this machine mounts no FUSE")
                assert mounts.found(str(place)) == []
                yield accomplice.stdout
            finally:
                accomplice.kill()


@pytest.mark.usefixtures("connections")
@pytest.mark.parametrize("other", [0, 10_000], ids=["its own", "of another account"])
def test_what_waits_for_a_file_system_that_root_does_not_see_is_ended(
    run: Run, monkeypatch: pytest.MonkeyPatch, other: int
) -> None:
    """Once: a process of a former account that waited for its own file system, in a namespace, outlived each setup.

    Once: so did one that waited for another account's: overlayfs in a user namespace asks it with its maker's rights.
    """
    abort, former = processes._abort, 50_000 + os.getpid() % 10_000

    def ours(wanted: Callable[[int, str], bool]) -> list[int]:
        """Leave alone what other tests have mounted on this machine."""
        return abort(lambda maker, place: maker in {former, former + other} and wanted(maker, place))

    monkeypatch.setattr(processes, "_abort", ours)
    monkeypatch.setattr(processes, "_PATIENCE", 0.3)
    with waiting(former, former + other) as told:
        processes.end(run, former)
        assert told.readline() == b"ended\n"


@pytest.mark.parametrize(("maker", "owed", "aborted"), [(1000, "1\n", True), (1000, "0\n", False), (0, "1\n", False)])
def test_only_what_an_account_but_root_has_mounted_and_owes_an_answer_is_aborted(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, maker: int, owed: str, aborted: bool
) -> None:
    (tmp_path / "waiting").write_text(owed)
    asked: list[bool] = []

    def abort(wanted: Callable[[int, str], bool]) -> list[int]:
        asked.append(wanted(maker, str(tmp_path)))
        return []

    monkeypatch.setattr(processes, "_abort", abort)
    processes._abort_silent(run, 1)
    assert asked == [aborted]
