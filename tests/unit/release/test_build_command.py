"""`build` runs on the controller before the release is made; its failure ends a run with its last lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.engine.errors import LoopError
from tasks.engine.release import build_command


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "service").mkdir()
    (tmp_path / "service/app.py").write_text("x = 1\n")
    return tmp_path


def run(root: Path, script: str) -> tuple[str, ...]:
    """Run these lines of sh as the build, with `dist` included."""
    (root / "build.sh").write_text(script)
    return build_command.run("sh 'build.sh' '$HOME'", root, {"dist": "service.yaml:9:11 (include[0])"})


def test_it_runs_in_the_root_with_the_environment_and_without_a_shell(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIND", "production")
    run(root, 'printf "%s %s %s" "$PWD" "$KIND" "$1" >told; cat >>told')
    assert (root / "told").read_text() == f"{root} production $HOME"


def test_the_files_that_it_changed_made_or_removed_are_named(root: Path) -> None:
    script = "mkdir -p service/dist; echo style >service/dist/a.css; echo same >service/same"
    (root / "service/same").write_text("same\n")
    assert run(root, script) == ("dist/a.css",)
    assert run(root, script) == ()
    assert run(root, f"{script}; echo other >service/dist/a.css; rm service/app.py") == ("app.py", "dist/a.css")
    assert run(root, "chmod +x service/same") == ("same",)


def test_a_failure_shows_the_last_lines(root: Path) -> None:
    with pytest.raises(LoopError, match="ended with status 3") as caught:
        run(root, "seq 100000; echo no such module >&2; exit 3")
    assert caught.value.exit_status == 1
    assert len(caught.value.detail) == 20
    assert caught.value.detail[-2:] == ("100000", "no such module")
    assert caught.value.next


def test_a_program_that_is_missing_is_told(root: Path) -> None:
    with pytest.raises(LoopError, match="cannot be started: No such file"):
        build_command.run("no-such-program", root, {})


def test_one_that_does_not_end_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_command, "_SECONDS", 0.5)
    with pytest.raises(LoopError, match="did not end"):
        run(root, "exec sleep 1000")
