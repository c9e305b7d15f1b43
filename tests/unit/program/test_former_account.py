"""A former deploy account: the end of its processes, and a directory that it puts in the place of root's."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from templates.host import file_copies, folders, handover, journals, processes, programs
from templates.host.file_copies import Copies
from templates.host.folders import LARGEST, Folder
from templates.host.record import Record
from templates.host.run import Refused, Run
from tests.support import access_lists

FORMER = 50_000 + os.getpid() % 10_000
"""A uid that no account has."""
# A chain of processes, each of which forks and exits at once; 20 at most. The first one, which is root's, reaps them.
CHAIN = """
import ctypes, os, resource, signal, sys, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
ctypes.CDLL(None).prctl(36, 1)
beat, uid, end = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), int(sys.argv[2]), time.monotonic() + 8
if os.fork():
    time.sleep(9)
    os._exit(0)
resource.setrlimit(resource.RLIMIT_NPROC, (20, 20))
os.setgroups([])
os.setresuid(uid, uid, uid)
while time.monotonic() < end:
    os.pwrite(beat, b"%020d" % time.monotonic_ns(), 0)
    try:
        if os.fork():
            os._exit(0)
    except OSError:
        time.sleep(0.001)
"""


@pytest.fixture
def run() -> Run:
    return Run(("n", "20260101T000000-abc123", "{}", ""), {"name": "myapp"}, io.BytesIO())


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", *arguments])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def beats(path: Path) -> bool:
    """Report whether the chain that writes to this file goes on."""
    before = path.read_bytes() if path.exists() else b""
    end = time.monotonic() + 1
    while time.monotonic() < end:
        if path.exists() and path.read_bytes() not in {b"", before}:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
@pytest.mark.parametrize("blind", [False, True])
def test_processes_that_fork_and_exit_all_the_time_are_ended(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blind: bool
) -> None:
    """Once: a chain of processes had moved on each time that setup looked at one of them, and survived the handover."""
    if blind:
        monkeypatch.setattr(processes._Look, "pids", lambda _: [])
    sleeps = f"import os, time; os.setresuid(*[{FORMER + 10_000}] * 3); time.sleep(60)"
    with running(sleeps) as other, running(CHAIN, str(tmp_path / "beat"), str(FORMER)):
        assert beats(tmp_path / "beat")
        processes.end(run, FORMER)
        assert not beats(tmp_path / "beat")
        assert other.poll() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
def test_processes_of_a_sub_uid_that_fork_and_exit_all_the_time_are_ended(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "subuid").write_text(f"{FORMER}:{FORMER + 20_000}:10\n")
    monkeypatch.setattr(processes, "_SUBUID", str(tmp_path / "subuid"))
    with running(CHAIN, str(tmp_path / "beat"), str(FORMER + 20_005)):
        assert beats(tmp_path / "beat")
        processes.end(run, FORMER)
        assert not beats(tmp_path / "beat")


def test_a_child_that_the_account_stops_has_not_struck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_strike_and_exit", lambda _: os.kill(os.getpid(), signal.SIGSTOP))
    began = time.monotonic()
    assert not processes._strike(FORMER)
    assert time.monotonic() - began < 20


def test_a_child_that_the_account_freezes_has_no_lock_and_no_connection_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: where cgroups have version 1, that account could keep the lock that setup had taken."""
    children = list[int]()
    monkeypatch.setattr(processes, "leaving_no_core", lambda: os.kill(os.getpid(), signal.SIGSTOP))
    monkeypatch.setattr(processes, "killed", children.append)
    with (tmp_path / "lock").open("w"):
        assert not processes._strike(FORMER)
        open_there = {str(path.readlink()) for path in Path(f"/proc/{children[0]}/fd").iterdir()}
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)
    assert open_there == {os.devnull}


@pytest.mark.skipif(os.geteuid() != 0, reason="this gives a directory away, which takes root")
@pytest.mark.parametrize("owner", [FORMER, 0], ids=["its own", "with a file in it"])
def test_a_directory_that_the_former_account_puts_in_the_place_of_the_copies_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int
) -> None:
    """Once: the account exchanged the directory of copies for its own between root's mkdir and open."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    if owner == 0:
        (theirs / "17").touch()
    os.chown(theirs, owner, -1)

    def exchanged(name: str, *_: int, **__: int) -> None:
        theirs.rename(tmp_path / name)

    monkeypatch.setattr(os, "mkdir", exchanged)
    with Folder.open(str(tmp_path)) as root, pytest.raises(Refused, match="was replaced while setup made it"):
        Copies(run, root, {}).__enter__()
    left = tmp_path / f"{file_copies.PREFIX}{run.id}"
    assert (left.stat().st_uid, len(list(left.iterdir()))) == (owner, int(owner == 0))


@pytest.mark.skipif(os.geteuid() != 0, reason="root makes the directory of copies")
def test_the_copies_are_flushed_and_not_what_the_former_account_puts_in_their_place(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: root opened, by the name of the directory of copies, any file or device that a link there led to."""
    asked, real = list[tuple[int, bool]](), programs.ask

    def ask(*words: str, **limits: float) -> programs.Completed:
        place, ended = Path(words[-1]).stat(), real(*words, **limits)  # type: ignore[arg-type]
        asked.append((place.st_ino, ended.well))
        return ended

    monkeypatch.setattr(programs, "ask", ask)
    with Folder.open(str(tmp_path)) as root, Copies(run, root, {}) as made:
        copies = tmp_path / f"{file_copies.PREFIX}{run.id}"
        aside = copies.rename(tmp_path / "aside")
        copies.symlink_to("/dev/watchdog")
        made.flush()
        copies.unlink()
        assert asked == [(aside.stat().st_ino, True)]


# Takes a lease on each of its arguments, and gives it up a moment after the kernel has asked for that.
LEASES = """
import fcntl, os, signal, sys, time
def end(*_):
    time.sleep(0.5)
    for file in files:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
signal.signal(signal.SIGIO, end)
files = [os.open(path, os.O_RDWR) for path in sys.argv[1:]]
for file in files:
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("leased", flush=True)
while True:
    time.sleep(9)
"""


@contextmanager
def leased(*paths: Path) -> Iterator[None]:
    words = [sys.executable, "-I", "-S", "-c", LEASES, *map(str, paths)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == b"leased\n"
            yield
        finally:
            process.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="root makes the directory of copies")
def test_files_on_which_a_process_has_a_lease_are_copied_once_it_has_ended(run: Run, tmp_path: Path) -> None:
    """Once: each setup took one file from a process of the service that had leases of the former account."""
    files = [tmp_path / name for name in ("one", "two")]
    for file in files:
        file.write_text(file.name)
    sizes: dict[int, int] = {}
    with leased(*files), Folder.open(str(tmp_path)) as root:
        handover._look(root, {os.getuid()}, "ours", sizes)
        with Copies(run, root, sizes) as made:
            for file in files:
                made.make(root, file.name, lambda *_: None)
                assert made.folder.read(str(file.stat().st_ino), 9).decode() == file.name


def test_a_lease_that_does_not_end_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(folders, "LEASE", 0)
    monkeypatch.setattr(run, "in_words", True)
    named = pytest.raises(Refused, match=f"{tmp_path}/file cannot be opened: a process keeps a lease on it")
    with leased(tmp_path / "file"), Folder.open(str(tmp_path)) as root, named:
        Copies(run, root, {}).make(root, "file", lambda *_: None)


@pytest.mark.parametrize("path", ["releases/aaaaaaaaaaaa", "releases/.x", "venvs/1", "slots/blue/release", "x"])
def test_a_link_that_the_former_account_planted_is_refused(tmp_path: Path, path: str) -> None:
    """Once: it led `releases/ID` and `venvs/NAME` to a directory of its own, and went on writing what serves."""
    for name in ("slots/blue", "releases/b/code", "venvs/2/bin"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "releases/b/venv").symlink_to("../../venvs/2")
    (tmp_path / "venvs/2/bin/python").symlink_to("/usr/bin/python3")
    with Folder.open(str(tmp_path)) as root:
        handover._refuse_planted(root)
        (tmp_path / path).symlink_to("/home/former/own")
        with pytest.raises(Refused, match=f"{tmp_path / path} is a symbolic link, and none of ours"):
            handover._refuse_planted(root)


@pytest.mark.parametrize("had", [True, False])
def test_journals_that_an_account_could_read_go_on_in_new_files(
    run: Run, monkeypatch: pytest.MonkeyPatch, had: bool
) -> None:
    """Once: a process of a third account that had one open, from the former account, read on after the hand-over."""
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(journals, "_strip_all", lambda _: had)
    monkeypatch.setattr(programs, "ask", lambda *words: asked.append(words))
    known = Record("shop")
    known.values = {"account": "deploy", "reader": "deploy"}
    journals.revoke(run, known, {FORMER})
    assert asked == [("journalctl", "--rotate")] * had
    journals.revoke(run, known, set())
    assert len(asked) == had


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_lists_of_journals_are_changed_by_no_name_of_another_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: the account of systemd-journal-remote exchanged a directory there, and got a list on /etc/shadow."""
    monkeypatch.setattr(journals, "FILES", (str(tmp_path / "none"), str(tmp_path / "journal")))
    ours, theirs = tmp_path / "journal/1234", tmp_path / "journal/remote"
    shadow, files = tmp_path / "shadow", (ours / "system.journal", theirs / "shadow")
    for path in (ours, theirs):
        path.mkdir(parents=True)
    for path in (*files, shadow):
        path.touch()
        access_lists.let_write(path, FORMER)
    access_lists.let_write(ours, FORMER)
    (ours / "link").symlink_to(shadow)
    os.chown(theirs, 65534, -1)
    assert journals._strip_all({FORMER + 1}) is False
    assert journals._strip_all({FORMER}) is True

    def may_write(path: Path) -> bool:
        return FORMER in {
            uid for _, _, uid in struct.iter_unpack("<HHI", os.getxattr(path, "system.posix_acl_access")[4:])
        }

    assert [may_write(path) for path in (ours, *files, shadow)] == [False, False, True, True]


def test_a_file_that_no_release_can_have_is_named(tmp_path: Path) -> None:
    """Once: setup asked for room on the disk for a sparse file of a former account, as much as no disk has."""
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(LARGEST)
        sizes: dict[int, int] = {}
        with Folder.open(str(tmp_path)) as folder:
            handover._look(folder, {os.geteuid()}, "", sizes)
            assert list(sizes.values()) == [LARGEST]
            file.truncate(LARGEST + 1)
            with pytest.raises(Refused, match="/sparse has 8 GiB, as no file of ours has: remove it"):
                handover._look(folder, {os.geteuid()}, "", sizes)
