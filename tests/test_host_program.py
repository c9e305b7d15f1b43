"""The program as a host gets it: one text that any Python of the system runs, or a word of why there is none."""

from __future__ import annotations

import ast
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.engine.fleet import script_errors
from tasks.engine.host import host_program, templates
from tasks.engine.host.marks import Transcript
from tasks.engine.host.steps import Script
from tasks.engine.ssh.local import LocalShell
from tasks.engine.ssh.session import Run
from templates.host import program
from templates.host.run import Run as HostRun

RUN = Run("20260101T000000-abc123", '{"user":"me"}')


def step(**values: object) -> Script:
    head = {"program": host_program.digest(), "step": "drift", "name": "nothing-of-ours", "root": "/nonexistent"}
    rest = {"files": [], "certificate": "", "units": []}
    return Script("drift", json.dumps({**head, **rest, **values}), 60, program=True)


def test_it_runs_without_a_file_and_reports() -> None:
    transcript = LocalShell().execute(step(files=["/etc/passwd", "/etc/none"]), RUN, lambda _: None)
    assert (transcript.exit, transcript.ended) == (0, True), transcript
    assert transcript.all("drift") == ("missing /etc/none",)
    assert [line.partition(" ")[0] for line in transcript.all("data")] == ["/etc/passwd"]


def test_every_module_is_sent_and_imported_at_the_start() -> None:
    names = {path.stem for path in (templates.FOLDER / "host").glob("*.py")} - {"loader"}
    assert set(templates.modules("host")) == names
    asked = "import importlib, sys, templates.host.main as main"
    asked += "; [importlib.import_module(f'templates.host.{step}') for step in main.STEPS]"
    asked += "; print(*sorted(n for n in sys.modules if n.startswith('templates.host.')))"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    assert {name.removeprefix("templates.host.") for name in told} == names - {"__init__"}


def test_a_step_imports_all_that_it_needs_before_it_does_anything() -> None:
    """What is imported later may be gone by then: an upgrade of Python comes in the middle of a probation."""
    for path in (templates.FOLDER / "host").glob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                late = [node for node in ast.walk(function) if isinstance(node, (ast.Import, ast.ImportFrom))]
                assert not late, f"{path.name}: {function.name}"


def test_it_knows_nothing_but_the_standard_library() -> None:
    code = f"import sys; sys.path.insert(0, {str(Path.cwd())!r}); before = set(sys.modules)"
    code += "; import templates.host.main; print(*set(sys.modules) - before)"
    words = [sys.executable, "-I", "-S", "-c", code]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert {name.partition(".")[0] for name in told} - set(sys.stdlib_module_names) == {"templates"}


def test_a_host_without_a_python_that_will_do_says_so(tmp_path: Path) -> None:
    text = host_program.LAUNCHER.replace("/usr/bin/python3", str(tmp_path)).replace("/usr/local/bin/python3", "/none")
    sent = f"\n{len(host_program.text())}\n{host_program.text()}nonce\nrun\n{{}}\n\n"
    ended = subprocess.run(["sh", "-c", text], input=sent.encode(), capture_output=True, check=False)
    assert ended.returncode == 1
    assert ended.stdout == b"@nonce python \n"


@pytest.mark.parametrize("kept", [True, False])
def test_a_host_whose_pythons_will_not_do_names_them(tmp_path: Path, kept: bool) -> None:
    """An old one, one that does not run, and what only looks like one."""
    texts = {
        "python3": "case $1 in -V) echo Python 3.6.8 ;; *) exit 1 ;; esac",
        "python3.8": "echo /lib/libc.so.6: version not found >&2; exit 1",
        "python3.8-config": "echo usage",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    text = host_program.LAUNCHER.replace("/usr/bin/", f"{tmp_path}/").replace("/usr/local/bin/python3", "/none")
    sent = f"{tmp_path}\nnonce\n" if kept else "\n4\ntextnonce\n"
    ended = subprocess.run(["sh", "-c", text], input=sent.encode(), capture_output=True, check=False)
    found = f"Python 3.6.8 ({tmp_path}/python3), /lib/libc.so.6: version not found ({tmp_path}/python3.8)"
    assert ended.stdout.decode() == f"@nonce {host_program.LACKS} {found}\n"
    transcript = Transcript({host_program.LACKS: [found]}, exit=1)
    error = script_errors.explain(step(), transcript, "shire01", "deploy")
    assert (error.code, found in error.message, "apt-get install python3" in (error.next or "")) == (
        "no-python",
        True,
        True,
    )


def test_the_names_of_files_are_utf_8_to_it_whatever_the_login_says(tmp_path: Path) -> None:
    asks = 'import os, sys; print(os.environ["LC_ALL"], sys.getfilesystemencoding())'
    (tmp_path / "host").mkdir()
    (tmp_path / "__main__.py").write_text(asks)
    words = ["sh", "-c", host_program.LAUNCHER]
    login = {"LC_ALL": "de_DE.ISO-8859-1", "LANG": "de_DE.ISO-8859-1", "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(words, input=f"{tmp_path}\n".encode(), capture_output=True, env=login, check=True)
    assert ended.stdout == b"C utf-8\n"


def kept(folder: Path) -> Path:
    """The copy of the program that a run has kept in a service's directory."""
    sources = {name: templates.text(f"host/{name}.py") for name in templates.modules("host")}
    run = HostRun(("n", RUN.id, RUN.who, ""), {}, io.BytesIO())
    return Path(program.keep(run, str(folder), sources))


def ask_copy(place: Path, shell: str = "sh") -> tuple[int, bytes]:
    """What comes of a step that the copy there is to do."""
    text = f"{place}\nn\nrun\n{{}}\n\n{len(step().text)}\n{step().text}"
    ended = subprocess.run([shell, "-c", host_program.LAUNCHER], input=text.encode(), capture_output=True, check=False)
    return ended.returncode, ended.stdout


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_copy_is_kept_once_and_run_in_place_of_what_is_sent(tmp_path: Path, shell: str) -> None:
    place = kept(tmp_path)
    assert place == tmp_path / program.PLACE / host_program.digest()
    assert ask_copy(place, shell) == (0, b"@n end ok\n")
    before = {path: path.stat().st_ino for path in place.rglob("*.py")}
    assert kept(tmp_path) == place
    assert {path: path.stat().st_ino for path in place.rglob("*.py")} == before


@pytest.mark.parametrize("fault", ["edited", "extra", "missing"])
def test_a_copy_that_is_not_what_its_digest_says_is_never_run_and_made_anew(tmp_path: Path, fault: str) -> None:
    place = kept(tmp_path)
    if fault == "edited":
        (place / "host/run.py").write_text("raise SystemExit(7)\n")
    elif fault == "extra":
        (place / "host/json.py").write_text("raise SystemExit(7)\n")
    else:
        (place / "__main__.py").unlink()
    status, told = ask_copy(place)
    assert status == 4
    assert told.startswith(f"@n {host_program.MISSING} ".encode())
    if fault == "missing":
        shutil.rmtree(place)
    assert ask_copy(kept(tmp_path)) == (0, b"@n end ok\n")


@pytest.mark.parametrize("named", ["/none/python3\n", "", "no newline", "/etc/passwd\n"])
def test_a_copy_runs_by_another_interpreter_where_that_which_made_it_is_gone(tmp_path: Path, named: str) -> None:
    place = kept(tmp_path)
    assert (place / "python").read_text() == f"{Path(sys.executable).resolve()}\n"
    (place / "python").write_text(named)
    assert ask_copy(place) == (0, b"@n end ok\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="this gives a directory away, which takes root")
def test_a_copy_of_somebody_else_is_never_run(tmp_path: Path) -> None:
    place = kept(tmp_path)
    os.chown(place, 65534, -1)
    assert ask_copy(place) == (4, f"@n {host_program.MISSING} missing\n".encode())


def test_a_copy_is_run_where_it_lies_and_nowhere_that_its_path_can_be_led(tmp_path: Path) -> None:
    """Who may write above it could lead the path elsewhere between the look and the start."""
    place = kept(tmp_path)
    (tmp_path / "link").symlink_to(place)
    (tmp_path / "folder").symlink_to(tmp_path)
    for led in (tmp_path / "link", tmp_path / "folder" / program.PLACE / place.name):
        status, told = ask_copy(led)
        assert (status, told) == (4, f"@n {host_program.MISSING} missing\n".encode())


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_copy_is_run_only_by_whom_it_and_all_around_it_belong_to(tmp_path: Path, depth: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("this has to give a directory away, which takes root")
    place = kept(tmp_path)
    os.chown([place, *place.parents][depth], 65534, -1)
    assert ask_copy(place) == (4, f"@n {host_program.MISSING} missing\n".encode())


def test_as_many_versions_are_kept_as_controllers_may_take_turns(tmp_path: Path) -> None:
    for age, name in enumerate(["a" * 12, "b" * 12, "c" * 12, ".part-x"]):
        (tmp_path / program.PLACE / name).mkdir(parents=True)
        os.utime(tmp_path / program.PLACE / name, (age, age))
    kept(tmp_path)
    assert {path.name for path in (tmp_path / program.PLACE).iterdir()} == {"b" * 12, "c" * 12, host_program.digest()}


@pytest.mark.parametrize("failpoint", ["setup.packages=fail", ""])
def test_setup_is_for_root_and_says_so(failpoint: str) -> None:
    """As nobody, whatever runs the tests."""
    if os.geteuid() != 0:
        pytest.skip("this has to become somebody else, which takes root")
    session = LocalShell(become=("setpriv", "--reuid=nobody", "--clear-groups"))
    wanted = step()._replace(text=step().text.replace('"drift"', '"setup"'))
    transcript = session.execute(wanted, RUN._replace(failpoint=failpoint), lambda _: None)
    assert (transcript.exit, transcript.last("refused")) == (1, "setup needs root")
