"""Locks between runs: one holder at a time, and what is in the place of a lock."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from templates.host import locks
from templates.host import run as running
from templates.host.locks import Lock
from templates.host.run import Busy, Interrupted, Run
from tests.support.program_run import run

__all__ = ["run"]


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock from another file description."""
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_lock_is_one_at_a_time_and_says_whose(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "myapp/lock/activate"
    path.write_text('{"run": "another"}\n')
    with Lock("myapp", "activate") as lock, held(path):
        assert (lock.take(), lock.held, lock.take_within(run, 0)) == (False, True, False)
        told = lock.refusal()
        assert isinstance(told, Busy)
        assert told.text == '{"run": "another"}'
    with Lock("myapp", "activate") as lock:
        assert lock.take_within(run, 0)
        lock.write("mine")
        assert lock.read() == "mine"


def test_a_signal_ends_the_wait_for_a_lock(run: Run, tmp_path: Path) -> None:
    run.listen()
    with Lock("myapp", "activate") as lock, held(tmp_path / "myapp/lock/activate"):
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted):
            lock.take_within(run, 60)
    for number in running.SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_what_is_no_file_in_the_place_of_a_lock_is_never_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "myapp/lock/activate"
    path.unlink()
    if kind == "link":
        path.symlink_to("history")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    if kind == "fifo":
        # It opens and locks like any file, without waiting for a writer.
        Lock("myapp", "activate").close()
    else:
        with pytest.raises(OSError, match=r"symbolic links|directory"):
            Lock("myapp", "activate")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of another account")
@pytest.mark.usefixtures("run")
def test_a_list_of_locks_without_an_end_is_read_for_a_limited_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: 200,000 locks of any account held each refusal for 20 s, a million for ten minutes."""
    with Lock("myapp", "activate") as lock:
        found = (tmp_path / "myapp/lock/activate").stat()
        at = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino} 0 EOF"
        (tmp_path / "proc/11").mkdir(parents=True)
        os.chown(tmp_path / "proc/11", 65534, -1)
        (tmp_path / "proc/locks").write_text(f"1: POSIX  ADVISORY  WRITE 9 {at}\n2: FLOCK  ADVISORY  WRITE 11 {at}\n")
        monkeypatch.setattr(locks, "PROC", str(tmp_path / "proc"))
        assert lock.foreign_holder.startswith("process 11 of ")
        monkeypatch.setattr(locks, "_LIST_SECONDS", -1)
        assert lock.foreign_holder == ""
