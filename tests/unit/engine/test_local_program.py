"""A program on the controller may print anything, and is ended with all that it started."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tasks.engine import local_program
from tasks.engine.local_program import Ended

CHILD = "sleep 1000 & echo $! >pid.new; mv pid.new pid; wait"


def shell(text: str, folder: Path, seconds: float = 60) -> Ended:
    return local_program.run(["sh", "-c", text], folder=folder, seconds=seconds)


def test_of_any_output_the_last_whole_lines_are_kept_in_little_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    ended = shell("head -c 50000000 /dev/zero; echo; seq 30 >&2; echo; exit 3", tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ended == (3, tuple(map(str, range(11, 31))))
    assert peak < 8 << 20
    assert shell("head -c 100000 /dev/zero", tmp_path) == (0, ())


def test_children_that_keep_the_output_open_are_not_waited_for(tmp_path: Path) -> None:
    assert shell("echo said; sleep 1000 & echo $! >pid", tmp_path, 600) == (0, ("said",))
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_one_that_does_not_end_is_ended_with_its_children(tmp_path: Path) -> None:
    for seconds in (1, 8, 64):
        assert shell(f"echo said; {CHILD}", tmp_path, seconds).status is None
        if (tmp_path / "pid").exists():
            break
    ends(tmp_path)


def test_an_interrupt_ends_it_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, wait = threading.Event(), local_program._wait

    def waiting(*given: Any) -> int | None:
        waits.set()
        return wait(*given)

    def interrupt() -> None:
        # Once it hung: the interrupt came before the start of the program had returned.
        waits.wait()
        while not (tmp_path / "pid").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGALRM)

    monkeypatch.setattr(local_program, "_wait", waiting)
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        shell(CHILD, tmp_path, 600)
    thread.join()
    signal.signal(signal.SIGALRM, previous)
    ends(tmp_path)


def ends(folder: Path) -> None:
    """Wait until the child of CHILD has ended."""
    stat = Path(f"/proc/{int((folder / 'pid').read_text())}/stat")
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.02)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lets us limit a program that runs")
def test_a_limited_program_and_its_children_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_program, "MEMORY", 64 << 20)
    # The limit is set when the program runs already.
    takes = "try: bytearray(128 << 20); print('has it')\nexcept MemoryError: print('has none')"
    waits = "import resource\nwhile resource.getrlimit(resource.RLIMIT_DATA)[0] < 0: pass\n"
    start = f"import subprocess, sys\n{waits}subprocess.run([sys.executable, '-c', {takes!r}])\n"
    command = [sys.executable, "-c", f"{start}{takes}"]
    assert local_program.run(command, seconds=600, limited=True) == (0, ("has none", "has none"))
    assert local_program.run([sys.executable, "-c", takes], seconds=600) == (0, ("has it",))
