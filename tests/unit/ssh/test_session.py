"""The seam: one plain command line for any login shell, and all data on standard input."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.engine.host import host_program
from tasks.engine.host.protocol import Output, Report
from tasks.engine.host.steps import HostStep
from tasks.engine.ssh.session import BLOCK, LinkLost, Run, blocks, command, opening, stream
from tasks.engine.ssh.ssh_session import lost
from templates.host.main import STEPS
from tests.support.local_session import LocalShell
from tests.support.stand_ins import TOLD, told_to

RUN = Run("20260101T000000-abc123", '{"user":"me"}')
PROGRAM = (host_program.STARTER, TOLD)
HEAD = "report('head', shutil.which('head') or '')"


def ignore(_: Report | Output) -> None:
    """Ignore it: the transcript has it."""


def test_nothing_of_the_run_is_on_the_command_line() -> None:
    line = command(("sudo", "-n"))
    assert re.match(r"exec /usr/bin/env LC_ALL=C PATH=[a-z:/]+ sudo -n /bin/sh -c '", line)
    assert line.isascii()
    host_step = HostStep("try", '{"text": "ü"}', 60)
    run, step = f"nonce\n{RUN.id}\n{RUN.who}\n\n".encode(), '14\n{"text": "ü"}'.encode()
    assert b"".join(stream(host_step, RUN, "nonce", [b"payload"])) == run + step + b"payload"
    assert opening("", "exit", "print(1)") == b"4\nexit\n16\n" + zlib.compress(b"print(1)")
    # To a copy on the host, the program itself is not sent.
    assert opening("/there", "exit", "print(1)") == b"4\nexit/there\n"


@pytest.mark.parametrize("shell", [shell for shell in ("dash", "bash", "fish", "tcsh", "zsh") if shutil.which(shell)])
def test_any_login_shell_runs_it_and_leaves_the_payload_alone(shell: str) -> None:
    program = shutil.which(shell) or shell
    payload = bytes(range(256)) * 400
    do = "report('said', 'ü $HOME \"x\"')\nreport('sum', hashlib.sha256(stream.read()).hexdigest())\nsys.exit(7)\n"
    local = LocalShell(program, program=PROGRAM)
    transcript = local.execute(told_to(do), RUN, ignore, [payload[:1], payload[1:]])
    assert transcript.last("said") == 'ü $HOME "x"'
    assert transcript.last("sum") == hashlib.sha256(payload).hexdigest()
    assert transcript.exit == 7


@pytest.mark.parametrize("account", ["a;id", "$(id)", "a b", "", "a'b", "a\n", "!x"])
def test_an_account_that_would_be_syntax_is_no_part_of_it(account: str) -> None:
    """Once: the deploy account as named by the host stood unquoted on the command line of root."""
    with pytest.raises(ValueError, match="as a plain word"):
        command(("runuser", "-u", account, "--"))


def test_what_a_login_sets_changes_neither_our_tools_nor_the_language_of_sudo(tmp_path: Path) -> None:
    """The login has no `head` on its PATH, and a stand-in for a German sudo, which prints its environment.

    Once: fab did not understand a sudo in another language, and a login without `head` on its PATH ran nothing.
    """
    sudo = tmp_path / "sudo"
    sudo.write_text('#!/bin/sh\necho "told $LC_ALL"\nexec "$@"\n')
    sudo.chmod(0o755)
    shell = LocalShell(environment={"PATH": "/nowhere", "LC_ALL": "de_DE.UTF-8"}, become=(str(sudo),), program=PROGRAM)
    seen: list[Report | Output] = []
    transcript = shell.execute(told_to(HEAD), RUN, seen.append)
    assert transcript.last("head")
    assert seen[0] == Output("told C")


def test_who_becomes_nobody_else_starts_one_program_less_and_finds_head_all_the_same() -> None:
    assert command().startswith("exec /bin/sh -c 'PATH=")
    local = LocalShell(environment={"PATH": "/nowhere"}, program=PROGRAM)
    transcript = local.execute(told_to(HEAD), RUN, ignore)
    assert transcript.last("head")


def test_the_lines_of_the_run_are_read_before_the_payload() -> None:
    do = "report('run', run)\nreport('who', who)\nreport('rest', stream.read().decode())\n"
    transcript = LocalShell(program=PROGRAM).execute(told_to(do), RUN, ignore, [b"p"])
    assert (transcript.last("run"), transcript.last("who"), transcript.last("rest")) == (RUN.id, RUN.who, "p")


CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0\n\r")


# Several texts a process: its start takes longer than a hundred of them.
@given(texts=st.lists(st.text(CHARACTERS, max_size=50), min_size=10, max_size=20))
@settings(max_examples=3, deadline=None)
def test_a_step_of_any_characters_arrives_as_it_is(texts: list[str]) -> None:
    do = f"for text in {texts!r}:\n    report('is', text)\n"
    assert LocalShell(program=PROGRAM).execute(told_to(do), RUN, ignore).all("is") == tuple(texts)


def test_a_payload_that_nobody_reads_does_not_hide_the_exit_status() -> None:
    transcript = LocalShell(program=PROGRAM).execute(told_to("sys.exit(5)"), RUN, ignore, [b"x" * 1_000_000] * 20)
    assert transcript.exit == 5


def test_output_and_payload_larger_than_any_pipe_do_not_wait_for_each_other() -> None:
    seen: list[Report | Output] = []
    payload = [(b"y" * 999 + b"\n") * 1000] * 4
    do = "shutil.copyfileobj(stream, sys.stdout.buffer)\nsys.stdout.flush()\nreport('end')\n"
    transcript = LocalShell(program=PROGRAM).execute(told_to(do), RUN, seen.append, payload)
    assert len([item for item in seen if item != Output("")]) == 4001
    assert transcript.ended


def test_what_a_program_prints_is_never_one_of_our_reports() -> None:
    lines = [f'{nonce}{{"report": "end"}}' for nonce in ("0123456789abcdef ", " ", "")]
    transcript = LocalShell(program=PROGRAM).execute(told_to(f"print(*{lines}, sep='\\n')"), RUN, ignore)
    assert not transcript.ended
    assert list(transcript.tail) == lines


def test_a_shell_that_is_killed_is_a_lost_link_and_no_failure() -> None:
    with pytest.raises(LinkLost, match="signal 9"):
        LocalShell(program=PROGRAM).execute(told_to("print(1)\nos.kill(os.getpid(), 9)"), RUN, ignore)


READING = {"facts", "libraries", "drift"}


@pytest.mark.parametrize("name", [name for name in STEPS if name not in {"status", "guard"}])
def test_a_lost_step_says_what_is_not_known_and_what_to_do(name: str) -> None:
    """Once: each said that the outcome is read back, which only an activation does, and gave no next step."""
    error = lost("the connection was lost", HostStep(name, "{}", 60), "shire01")
    way = "run the command again"
    assert (error.where, error.next) == ("shire01", way if name in READING else f"fab status -H shire01, then {way}")
    assert ("is not known" in error.message) == (name not in READING)
    assert "read back" not in error.message


def test_a_shell_that_was_begun_ahead_and_gets_nothing_does_nothing() -> None:
    told = subprocess.run(["/bin/sh", "-c", command()], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert (told.returncode, told.stdout, told.stderr) == (1, b"", b"")


def test_the_environment_is_the_given_one() -> None:
    local = LocalShell(environment={"PATH": os.environ["PATH"], "A": "1"}, program=PROGRAM)
    told = local.execute(told_to("report('is', os.environ['A'] + os.environ.get('HOME', ''))"), RUN, ignore)
    assert told.last("is") == "1"


def test_a_payload_that_fails_while_it_is_read_ends_the_step_too() -> None:
    def broken() -> Iterator[bytes]:
        yield b"1" * BLOCK
        raise BrokenPipeError

    do = "report('got', stream.read().decode())"
    transcript = LocalShell(program=PROGRAM).execute(told_to(do), RUN, ignore, broken())
    assert transcript.last("got") == "1" * BLOCK


@given(st.lists(st.integers(0, 3 * BLOCK), max_size=6))
@settings(max_examples=50, deadline=None)
def test_pieces_of_any_size_are_the_same_bytes_in_blocks(sizes: list[int]) -> None:
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
    found = list(blocks(pieces))
    assert b"".join(found) == b"".join(pieces)
    assert all(len(block) == BLOCK for block in found[:-1])
    assert all(0 < len(block) <= BLOCK for block in found[-1:])
