"""The program that a unit execs, shown by running it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.engine.config.service import Process
from tasks.engine.host import launchers
from tests.support.small_service import SERVICE

RELEASE = "0123456789ab"
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


def run(text: str, folder: Path, shell: str) -> list[bytes]:
    """Run a launcher with a stand-in for the program it execs; return arguments and environment."""
    home = folder / "home"
    (home / "code").mkdir(parents=True, exist_ok=True)
    program = folder / "show"
    program.write_text('#!/bin/sh\nprintf \'%s\\0\' "$PWD" "$@"\nenv -0\n')
    program.chmod(0o755)
    moved = text.replace(f"/opt/apps/myapp/releases/{RELEASE}", str(home))
    moved = moved.replace("exec python", f"exec {program}").replace(f"exec {home}/venv/bin/gunicorn", f"exec {program}")
    script = folder / "script"
    script.write_text(moved, encoding="utf-8")
    answer = subprocess.run([shutil.which(shell) or shell, str(script)], capture_output=True, check=True, env={})
    return answer.stdout.split(b"\0")


@pytest.mark.parametrize("shell", ["dash", "bash"])
@given(values=st.lists(VALUES, min_size=1, max_size=4), word=VALUES)
@settings(max_examples=10, deadline=None)
def test_every_value_arrives_as_it_was(
    shell: str, values: list[str], word: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import shlex

    folder = tmp_path_factory.mktemp("run")
    env = tuple((f"V{number}", value) for number, value in enumerate(values))
    service = SERVICE._replace(
        env=env, processes=(SERVICE.processes[0], Process("worker", f"python {shlex.quote(word)}"))
    )
    found = run(launchers.render(service, RELEASE, "shire01", "27.0.1")["worker"], folder, shell)
    assert found[0] == str(folder / "home/code").encode()
    assert found[1] == word.encode()
    for name, value in (*env, ("SERVICE", "myapp"), ("RELEASE", RELEASE), ("HOST", "shire01")):
        assert f"{name}={value}".encode() in found


def test_web_is_gunicorn_with_the_numbers_of_the_service(tmp_path: Path) -> None:
    found = run(launchers.render(SERVICE, RELEASE, "shire01", "27.0.1")["web"], tmp_path, "dash")
    words = [word.decode() for word in found[1 : found.index(b"app:create_app()") + 1]]
    assert words[words.index("--worker-class") + 1] == "gthread"
    assert words[words.index("--workers") + 1] == "2"
    assert words[words.index("--threads") + 1] == "4"
    assert int(words[words.index("--graceful-timeout") + 1]) > SERVICE.drain
    assert words[-1] == "app:create_app()"


@pytest.mark.parametrize(("drain", "seconds"), [(5, 30), (60, 62)])
def test_one_thread_is_gunicorns_sync_worker_which_may_take_as_long_as_a_drain(drain: int, seconds: int) -> None:
    service = SERVICE._replace(processes=(Process("web", workers=3, threads=1),), drain=drain)
    words = launchers.render(service, RELEASE, "shire01", "27.0.1")["web"].split()
    assert words[words.index("--worker-class") + 1] == "sync"
    assert words[words.index("--timeout") + 1] == str(seconds)
    assert "--threads" not in words


@pytest.mark.parametrize(
    ("threads", "timeout", "words"), [(1, 90, "--timeout 90"), (4, 90, "--timeout 90"), (4, 5, "")]
)
def test_a_worker_may_take_as_long_to_import_as_the_health_check_waits(threads: int, timeout: int, words: str) -> None:
    health = SERVICE.health._replace(timeout=timeout)
    service = SERVICE._replace(processes=(Process("web", workers=3, threads=threads),), health=health)
    text = launchers.render(service, RELEASE, "shire01", "27.0.1")["web"]
    assert words in text
    assert ("--timeout" in text) == bool(words)


@pytest.mark.parametrize(
    ("version", "told"), [("23.0.0", False), ("25.0.3", False), ("25.1.0", True), ("27.0.1", True)]
)
def test_only_a_gunicorn_that_has_a_control_socket_is_told_to_open_none(version: str, told: bool) -> None:
    assert ("--no-control-socket" in launchers.render(SERVICE, RELEASE, "h", version)["web"]) is told


def test_without_its_code_a_launcher_starts_nothing(tmp_path: Path) -> None:
    text = launchers.render(SERVICE, RELEASE, "shire01", "27.0.1")["worker"]
    answer = subprocess.run(["sh", "-c", text.replace("/opt/apps", str(tmp_path))], capture_output=True, check=False)
    assert answer.returncode == 1
