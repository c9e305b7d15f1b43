"""The `fab` that tests start: nothing that it prints is lost, and a fork of it is like a process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.clone import Clone, Ended, Process


def test_what_comes_with_the_line_that_a_test_reads_is_in_the_rest() -> None:
    """Once: a line that came with the one before it was lost, and a true report of a run seemed false."""
    command = [sys.executable, "-c", "print('one\\ntwo\\nthree')"]
    with Process(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "one\n"
        assert process.communicate(timeout=60) == ("two\nthree\n", None)
        assert process.stdout.closed


@pytest.mark.parametrize("words", [["--list"], ["deploy", "--help"], ["no-such-verb"], ["plan"]])
def test_a_fork_does_what_a_process_does(clone: Clone, words: list[str]) -> None:
    assert clone.fab(*words) == clone.process(*words)


def test_a_fork_loads_the_modules_of_its_clone_and_is_told_all_that_a_process_is(clone: Clone) -> None:
    clone.environment["ASKED"] = "by a test"
    clone.write(
        "fabfile.py",
        "import os, sys, tasks.engine.errors\n"
        "print(tasks.__file__, tasks.engine.errors.__file__, os.getcwd(), sys.path[:1], sys.argv, os.getenv('ASKED'))\n"
        "print(sys.stdin.read(), sys.stdout.isatty(), sys.stdout.errors, sys.stderr.errors, file=sys.stderr)\n"
        "sys.exit(7)\n",
    )
    ended = clone.fab("status")
    assert ended == clone.process("status")
    assert (ended.status, ended.out.count(str(clone.root))) == (7, 4)


def test_a_fork_loads_a_module_that_its_clone_has_otherwise(clone: Clone) -> None:
    clone.write("tasks/engine/errors.py", "raise SystemExit('another module')\n")
    assert clone.fab("status") == clone.process("status") == Ended(1, "", "another module\n")
    (clone.root / "tasks/engine/errors.py").unlink()
    assert "No module named 'tasks.engine.errors'" in clone.fab("status").err


def test_what_a_fork_says_before_a_signal_ends_it_is_kept(clone: Clone) -> None:
    clone.write("fabfile.py", "import os, sys\nsys.stderr.write('last words\\n')\nos.kill(os.getpid(), 9)\n")
    assert clone.fab("status") == Ended(-9, "", "last words\n")


def test_a_fork_that_does_not_end_is_killed(clone: Clone, tmp_path: Path) -> None:
    clone.write("fabfile.py", f"import os, time\nopen('{tmp_path}/pid', 'w').write(str(os.getpid()))\ntime.sleep(60)\n")
    with pytest.raises(subprocess.TimeoutExpired):
        clone.fab("status", timeout=2)
    process = int((tmp_path / "pid").read_text())
    while Path(f"/proc/{process}").exists():
        time.sleep(0.01)
