"""The program as a host gets it: one text that any Python of the system runs, or a word of why there is none."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.engine import host_program, templates
from tasks.engine.local import LocalShell
from tasks.engine.scripts import Script
from tasks.engine.session import Run

RUN = Run("20260101T000000-abc123", '{"user":"me"}')


def step(**values: object) -> Script:
    head = {"program": host_program.digest(), "step": "drift", "name": "nothing-of-ours", "root": "/nonexistent"}
    rest = {"files": [], "certificate": "", "units": []}
    return Script("drift", json.dumps({**head, **rest, **values}), 60, program=True)


def test_it_runs_without_a_file_and_reports() -> None:
    transcript = LocalShell().execute(step(files=["/etc/passwd", "/etc/none"]), RUN, lambda _: None)
    assert (transcript.exit, transcript.ended) == (0, True), transcript
    assert transcript.all("drift") == ("missing /etc/none",)
    assert [line.partition(" ")[0] for line in transcript.all("fact")] == ["file./etc/passwd"]


def test_every_module_is_sent_and_imported_at_the_start() -> None:
    names = {path.stem for path in (templates.FOLDER / "host").glob("*.py")} - {"loader"}
    assert set(templates.modules("host")) == names
    asked = "import importlib, sys, templates.host.main as main"
    asked += "; [importlib.import_module(f'templates.host.{step}') for step in main.STEPS]"
    asked += "; print(*sorted(n for n in sys.modules if n.startswith('templates.host.')))"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    assert {name.removeprefix("templates.host.") for name in told} == names - {"__init__"}


def test_a_step_imports_all_that_it_needs_before_it_does_anything() -> None:
    """What is imported later might be somebody else's by then, or gone: an upgrade comes in the middle of a probation."""
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
    sent = f"{len(host_program.text())}\n{host_program.text()}nonce\nrun\n{{}}\n\n"
    ended = subprocess.run(["sh", "-c", text], input=sent.encode(), capture_output=True, check=False)
    assert ended.returncode == 1
    assert ended.stdout.startswith(b"@nonce refused no Python 3.9 or newer runs in /usr/bin")


@pytest.mark.parametrize("failpoint", ["setup.packages=fail", ""])
def test_setup_is_for_root_and_says_so(failpoint: str) -> None:
    """As nobody, whatever runs the tests."""
    if os.geteuid() != 0:
        pytest.skip("this has to become somebody else, which takes root")
    session = LocalShell(become=("setpriv", "--reuid=nobody", "--clear-groups"))
    wanted = step()._replace(text=step().text.replace('"drift"', '"setup"'))
    transcript = session.execute(wanted, RUN._replace(failpoint=failpoint), lambda _: None)
    assert (transcript.exit, transcript.last("refused")) == (1, "setup needs root")
