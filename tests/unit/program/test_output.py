"""Programs started by the host's program never write to its output: it reports their output, line by line."""

from __future__ import annotations

import ast
import io
import json
import os
import signal
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.engine.fleet import step_errors
from tasks.engine.host import steps, templates
from tasks.engine.host.steps import HostStep
from templates.host import programs, units
from templates.host.guard import Guard
from templates.host.run import Interrupted
from templates.host.run import Run as HostRun
from templates.host.service import Service as HostService
from templates.host.slots import Slots
from tests.support.local_session import LocalShell
from tests.support.simulated_host import RUN, SERVICE, SimulatedHost, serving, simulated_host

__all__ = ["simulated_host"]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The reported lines, in order."""
    lines: list[str] = []
    monkeypatch.setattr(programs, "tell", lines.append)
    return lines


@pytest.fixture
def child(tmp_path: Path) -> Iterator[str]:
    """A command that starts a child, which goes on and keeps the output open; it ends with the test."""
    pid = tmp_path / "pid"
    yield f"sleep 60 & echo $! >{pid}"
    if pid.exists():
        os.kill(int(pid.read_text()), signal.SIGKILL)


def shell(text: str, seconds: float = 30) -> bool:
    return programs.run("/bin/sh", "-c", text, seconds=seconds)


def test_no_program_inherits_our_output() -> None:
    for name in templates.modules("host"):
        for node in ast.walk(ast.parse(templates.text(f"host/{name}.py"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"subprocess.Popen", "subprocess.run"}:
                assert {"stdout", "stderr"} <= {one.arg for one in node.keywords}, f"{name}.py, line {node.lineno}"


def test_both_streams_are_told_in_order_and_by_lines(told: list[str]) -> None:
    assert shell("echo one; echo two >&2; printf '\\n three'; printf ' four\\nfive' >&2")
    assert told == ["one", "two", "", " three four", "five"]


def test_a_line_is_told_as_soon_as_it_is_written(told: list[str]) -> None:
    started = programs.Started("/bin/sh", "-c", "echo now; exec sleep 60")
    ends = time.monotonic() + 20
    while not told and time.monotonic() < ends:
        assert not started.ends_within(0.1)
    started.kill()
    assert told == ["now"]


@pytest.mark.parametrize(("text", "well"), [("true", True), ("exit 3", False), ("kill -9 $$", False)])
def test_it_says_how_a_program_ended(told: list[str], text: str, well: bool) -> None:
    assert shell(text) is well
    assert told == []


def test_a_program_that_is_not_there_has_not_succeeded() -> None:
    assert not programs.run("/none/of/ours")


def test_one_that_takes_too_long_is_killed(told: list[str]) -> None:
    began = time.monotonic()
    assert not shell("echo begun; exec sleep 60", 0.5)
    assert (told, time.monotonic() - began < 20) == (["begun"], True)


def test_one_that_no_signal_ends_is_not_waited_for(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As where it waits for what an account has mounted."""
    monkeypatch.setattr(programs, "DEATH", 0.1)
    kill, left = subprocess.Popen.kill, list[subprocess.Popen[bytes]]()
    monkeypatch.setattr(subprocess.Popen, "kill", lambda process: left.append(process))
    began = time.monotonic()
    assert not shell("echo begun; exec sleep 20", 0.2)
    assert programs.ask("sleep", "20", seconds=0.2).status == programs.LATE
    assert (told, len(left), time.monotonic() - began < 15) == (["begun"], 2, True)
    for process in left:
        kill(process)
        process.wait()


@pytest.mark.parametrize("text", ["echo said; {child}", "echo said; exec >&- 2>&-; sleep 0.2"])
def test_its_end_is_what_is_waited_for_and_not_that_of_its_output(told: list[str], child: str, text: str) -> None:
    began = time.monotonic()
    assert shell(text.format(child=child))
    assert (told, time.monotonic() - began < 20) == (["said"], True)


def test_any_bytes_and_any_length_are_told(told: list[str]) -> None:
    assert shell("printf '\\377\\001\\n'; head -c 300000 /dev/zero | tr '\\0' x; echo; echo end")
    assert told[0].encode("utf-8", "surrogateescape") == b"\xff\x01"
    assert ("".join(told[1:-1]), told[-1]) == ("x" * 300_000, "end")
    assert max(map(len, told)) <= 1 << 17


@contextmanager
def little_memory() -> Iterator[None]:
    """Fail if the block takes more than 8 MiB at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_the_answer_of_a_program_that_prints_without_end_takes_little_memory() -> None:
    with little_memory():
        ended = programs.ask("/bin/sh", "-c", "head -c 50000000 /dev/zero; echo end >&2; exit 3", errors=True)
    assert (ended.status, len(ended.output)) == (3, programs.KEPT)


def test_of_an_output_of_any_length_the_last_lines_are_kept_each_up_to_its_limit() -> None:
    text = "echo first; head -c 50000000 /dev/zero | tr '\\0' x; echo; echo; echo short; echo; echo"
    with little_memory():
        assert programs.last_lines("/bin/sh", "-c", text, seconds=60, longest=1000) == (
            ["first", "x" * 1000, "", "short"],
            True,
        )
        lines, _ = programs.last_lines("/bin/sh", "-c", "yes '' | head -c 200000; seq 9", seconds=60, longest=1000)
    assert (lines[-9:], len(lines) < 20_000) == (list("123456789"), True)


@pytest.mark.parametrize("text", ["echo said; {child}", "echo said; exec >&- 2>&-; sleep 0.2"])
def test_an_answer_does_not_wait_for_children_that_keep_the_output_open(child: str, text: str) -> None:
    assert programs.ask("/bin/sh", "-c", text.format(child=child), seconds=30) == (0, "said\n")


def test_an_answer_that_does_not_end_is_ended() -> None:
    ended = programs.ask("/bin/sh", "-c", "exec yes", seconds=1)
    assert ended == (programs.LATE, "/bin/sh did not end within 1 s")


@pytest.mark.parametrize(("program", "read"), [("cat", 300_000), ("true", 0)])
def test_a_program_is_given_data_of_any_size_and_may_leave_it(program: str, read: int) -> None:
    ended = programs.ask(program, data=b"x" * 300_000)
    assert (ended.well, len(ended.output)) == (True, read)


def reports(data: bytes) -> list[tuple[str, str]]:
    """Return all output as reports; every line must be one."""
    lines = [line for line in data.decode("utf-8", "replace").split("\n") if line]
    assert all(line.startswith("n {") for line in lines), lines
    return [(one["report"], one["text"]) for one in (json.loads(line[2:]) for line in lines)]


def test_what_reaches_the_controller_is_reports_and_nothing_else(simulated_host: SimulatedHost) -> None:
    serving(simulated_host)
    (simulated_host.folder / "rules").write_text("")
    with (simulated_host.folder / "out").open("wb") as file:
        assert simulated_host.unheard(steps.stop(SERVICE, disable=False), file.fileno()) == 1
    found = reports((simulated_host.folder / "out").read_bytes())
    assert next(text for word, text in found if word == "output").startswith("sudo: a password is required")
    assert found[-1][0] in {"failed", "refused"}


def test_a_fault_of_ours_is_shown_in_reports_of_its_own() -> None:
    stop = HostStep("stop", json.dumps({"step": "stop", "name": "none"}), 60)
    transcript = LocalShell().execute(stop, RUN, lambda _: None)
    trace = transcript.all("fault")
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-1].startswith("KeyError: ")
    assert list(transcript.tail) == []
    error = step_errors.explain(stop, transcript, "shire01", "deploy")
    assert (error.message[:35], error.detail) == ("the host's program failed: KeyError", trace[-20:])


def run(signalled: bool = False) -> HostRun:
    made = HostRun(("n", RUN.id, RUN.who, ""), {}, io.BytesIO())
    made._signalled = signalled
    return made


@pytest.mark.parametrize("heard", [True, False])
def test_a_signal_or_a_silent_controller_ends_no_program_that_is_at_work(
    heard: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The run ends once the program has ended."""
    made, ours = run(signalled=heard), os.dup(1)
    monkeypatch.setattr(programs, "tell", made.output)
    with (tmp_path / "out").open("wb" if heard else "ab") as file:
        os.dup2(file.fileno() if heard else os.open("/dev/full", os.O_WRONLY), 1)
        try:
            assert shell("echo said; touch " + str(tmp_path / "done"))
        finally:
            os.dup2(ours, 1)
    assert (tmp_path / "done").exists()
    assert (tmp_path / "out").read_bytes() == (b'\nn {"report": "output", "text": "said"}\n' if heard else b"")
    with pytest.raises(Interrupted):
        made.heed()


def test_a_person_gets_words(capfd: pytest.CaptureFixture[str]) -> None:
    made = run()
    made.in_words = True
    made.say("switch", "slot blue\ntakes the traffic")
    made.report("end", "ok")
    made.output("  of a program")
    assert capfd.readouterr().out == "step switch slot blue takes the traffic\n  of a program\n"


def test_no_text_of_the_service_begins_a_line_or_commands_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    """Once: what a health command printed after a NUL was a line of the guard's in the journal."""
    made = run()
    made.in_words = True
    made.report("failed", "ill\0all is well\x1b[2J\r\u2028\udcff")
    made.output("a\tb\0c")
    assert capfd.readouterr().out == "failed ill?all is well?[2J???\na b?c\n"


def test_a_guard_says_in_one_line_that_it_went_back(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = Guard.__new__(Guard)
    made = run()
    made.in_words = True
    guard.run, guard.release, guard.why, guard.old, guard.new = made, "b" * 12, "ill\0all is well", "blue", "green"
    guard.slots = SimpleNamespace(committed="a" * 12)  # type: ignore[assignment]
    guard.service = HostService("shop", "/none", 0, 0, None, None, (), (), ())  # type: ignore[arg-type]
    guard.change_lock = SimpleNamespace(activate=SimpleNamespace(take_within=lambda *_: False))  # type: ignore[assignment]
    monkeypatch.setattr(units, "states", lambda _: ["active"])
    for of, name in ((guard, "record"), (guard, "give_back"), (made, "listen"), (made, "begin_ending")):
        monkeypatch.setattr(of, name, lambda *_: None)
    monkeypatch.setattr(guard, "_move_back", lambda: True)
    guard._return_to_former()
    told = f"release {'b' * 12} did not hold: ill?all is well. The traffic is back on {'a' * 12}\n"
    assert capfd.readouterr().out == told


def test_words_and_texts_of_any_letters_are_one_report(capfd: pytest.CaptureFixture[str]) -> None:
    """Word and text may come from a process of the deploy account."""
    run().report('x", "y": "\n', 'n {"report": "end"}\nn {"report": "end"}\0\udcff\\')
    (found,) = reports(capfd.readouterr().out.encode("utf-8", "surrogateescape"))
    assert found == ('x", "y": "\n', 'n {"report": "end"}\nn {"report": "end"}\0\ufffd\\')


def test_the_socket_of_a_slot_is_found_among_any_number_of_others_of_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: those of another account filled what is kept of the output, and no connection was waited for."""
    other = "u_str LISTEN 0 1 /run/shop/blue.sock 1 * 0 <-> ino:187 dev:1/43 peers:"
    ours = "u_str LISTEN 7 1024 /run/shop/blue.sock 2 * 0 <-> ino:187 dev:0/186 peers:"
    (tmp_path / "ss").write_text(
        f"#!/bin/sh\nyes '{other}' | head -n 30000\necho '{ours}'\nyes '{other}' | head -n 99\n"
    )
    (tmp_path / "ss").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = Slots.__new__(Slots)
    found.service = HostService("shop", "/none", 0, 0, None, None, (), (), ())  # type: ignore[arg-type]
    assert found._sockets("blue", "ino:187 dev:0/186", "-l") == [ours.split()]
    assert found._sockets("blue", "ino:188 dev:0/186", "-l") == []
    assert found._waiting("blue", "ino:187 dev:0/186")


def test_of_the_lines_that_are_wanted_the_last_are_kept() -> None:
    few = programs.lines_with("sh", "-c", "yes no | head -n 400000; printf 'yes 1\n\nyes 2'", wanted=b"yes".__le__)
    assert few == ["yes 1", "yes 2"]
    many = programs.lines_with("sh", "-c", "yes | head -n 400000; echo yes", wanted=bool)
    assert (many[-1], len(many) < programs.KEPT // 64) == ("yes", True)
    assert programs.lines_with("/no/such/program", wanted=bool) == []
