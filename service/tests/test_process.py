from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.app import process

WITNESS_SECONDS = 10


class Witness:
    """A pipe that a program and its children hold open; it ends when the last of them is dead."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def read(self) -> bytes:
        """Read until no process holds the other end; fail if one still does after WITNESS_SECONDS."""
        seen = b""
        while True:
            ready, _, _ = select.select([self.reader], [], [], WITNESS_SECONDS)
            assert ready, "a process of the command is still alive"
            chunk = os.read(self.reader, 100)
            if not chunk:
                return seen
            seen += chunk


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    made = Witness(tmp_path / "alive")
    yield made
    os.close(made.reader)


def run(script: str, timeout: float = 10, max_output: int = 1000) -> process.Outcome:
    return process.run(["sh", "-c", script], {}, timeout=timeout, max_output=max_output)


@pytest.mark.parametrize(
    ("script", "exit_status", "stdout", "stderr"),
    [
        ("echo out; echo err >&2", 0, "out\n", "err\n"),
        ("exit 3", 3, "", ""),
        ("kill -9 $$", -9, "", ""),
        ("cat", 0, "", ""),
        ("pwd; echo $LC_ALL", 0, "/\nC\n", ""),
        (r"printf 'a\377b'", 0, "a\ufffdb", ""),
        ("exec >&- 2>&-; exit 4", 4, "", ""),
    ],
)
def test_it_reports_what_happened(script: str, exit_status: int, stdout: str, stderr: str) -> None:
    outcome = run(script)
    assert (outcome.exit_status, outcome.stdout, outcome.stderr) == (exit_status, stdout, stderr)
    assert not outcome.truncated
    assert 0 <= outcome.seconds < 10


def test_arguments_are_not_shell() -> None:
    assert process.run(["echo", "$(id); `id` *"], {}, timeout=5, max_output=100).stdout == "$(id); `id` *\n"


def test_the_environment_of_the_service_stays_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", "secret")
    seen = process.run(["env"], {"REQUEST_ID": "abcdefgh-1"}, timeout=5, max_output=9999).stdout.splitlines()
    assert {line.partition("=")[0] for line in seen} == {"PATH", "LC_ALL", "REQUEST_ID"}
    assert "REQUEST_ID=abcdefgh-1" in seen


@pytest.mark.parametrize(
    ("script", "kept"),
    [("head -c 1000 /dev/zero", 1000), ("head -c 1001 /dev/zero", 1000), ("head -c 3000000 /dev/zero >&2", 1000)],
)
def test_output_is_capped_and_the_program_not_held_up(script: str, kept: int) -> None:
    outcome = run(script)
    assert (outcome.exit_status, len(outcome.stdout + outcome.stderr)) == (0, kept)
    assert outcome.truncated is (script != "head -c 1000 /dev/zero")


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        process.run(["no-such-program"], {}, timeout=5, max_output=100)


@pytest.mark.parametrize(
    "script",
    [
        "sleep 300",
        "sh -c 'sleep 300 & sleep 300' & wait",
        "trap '' TERM INT HUP; sleep 300; sleep 300",
        "exec >&- 2>&-; sleep 300",
        "yes",
    ],
)
def test_at_the_deadline_the_whole_family_dies(witness: Witness, script: str) -> None:
    with pytest.raises(TimeoutError):
        run(f"exec 3>{witness.path}; echo started >&3; {script}", timeout=0.5)
    assert witness.read() == b"started\n"


@pytest.mark.parametrize("redirection", [">/dev/null 2>&1", ""])
def test_a_child_left_in_the_background_dies_with_the_program(witness: Witness, redirection: str) -> None:
    outcome = run(f"exec 3>{witness.path}; echo started >&3; sleep 300 {redirection} & echo done", timeout=60)
    assert (outcome.exit_status, outcome.stdout) == (0, "done\n")
    assert outcome.seconds < 30
    assert witness.read() == b"started\n"


# A worker process: it takes a place, says whether it got one, and keeps it until it is killed.
WORKER = """
import sys
from service.app.process import place
with place(2, sys.argv[1]) as free:
    print(free, flush=True)
    sys.stdin.read()
"""


def worker(folder: Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    argv = [sys.executable, "-c", WORKER, str(folder)]
    return subprocess.Popen(argv, cwd=Path(__file__).parents[2], stdin=pipe, stdout=pipe, text=True)


def said(of: subprocess.Popen[str]) -> str:
    assert of.stdout
    return of.stdout.readline().strip()


def test_all_workers_share_the_places_and_one_that_dies_gives_its_own_back(tmp_path: Path) -> None:
    with worker(tmp_path) as first, worker(tmp_path) as second:
        assert [said(first), said(second)] == ["True", "True"]
        with process.place(2, str(tmp_path)) as free:
            assert not free
        first.kill()
        first.wait()
        with process.place(2, str(tmp_path)) as free:
            assert free
        second.kill()


@pytest.mark.parametrize("error", [ZeroDivisionError, BlockingIOError])
def test_a_place_is_free_again_after_an_exception(tmp_path: Path, error: type[Exception]) -> None:
    with pytest.raises(error), process.place(1, str(tmp_path)):
        raise error
    with process.place(1, str(tmp_path)) as first, process.place(1, str(tmp_path)) as second:
        assert (first, second) == (True, False)
