"""The text that runs on a host: a pure function, whose header carries any value."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.engine import host_files, host_program, scripts, templates
from tasks.engine.host_files import Ground
from tasks.engine.parts import Gateway, Health, Tls
from tasks.engine.questions import Question
from tasks.engine.scripts import Installation, Script, Staging, Switch
from tasks.engine.service import Service
from templates.host import main
from tests.test_golden import SERVICE

ID = "0123456789ab"
EVERY: dict[str, Callable[[Service], Script]] = {
    "stage": lambda service: scripts.stage(service, Staging(ID, "1" * 16, "/usr/bin/python3", None, False)),
}
FILES = host_files.render(SERVICE, Ground("deploy", "www-data", True))
STEPS: dict[str, Callable[[Service], Script]] = {
    "setup": lambda service: scripts.setup(service, Installation("deploy", ("nginx",), FILES, "origin")),
    "facts": lambda service: scripts.facts(service, Question(frozenset({"state"}), ("/etc/x",), "python3.12")),
    "activate": lambda service: scripts.activate(service, Switch("deploy", ID, None)),
    "hold": lambda service: scripts.hold(service, "deploy", ID, 5),
    "hook": lambda service: scripts.hook(service, ID),
    "stop": lambda service: scripts.stop(service, disable=True),
    "start": scripts.start,
    "maintenance": lambda service: scripts.maintenance(service, "on"),
    "drift": lambda service: scripts.drift(service, ("/etc/x",)),
    "remove": lambda service: scripts.remove(service, data=False),
}


def header(script: Script) -> dict[str, str]:
    """What the assignments ahead of the static text say, as the shell reads them."""
    text = script.text[: script.text.index(templates.text("shell/prelude.sh"))]
    names = [line.partition("=")[0] for line in text.splitlines() if "=" in line and line.split("=")[0].isupper()]
    shown = " ".join(f'"{name}=${name}"' for name in names)
    answer = subprocess.run(
        [shutil.which("dash") or "sh", "-c", f"{text}\nprintf '%s\\0' {shown}"], capture_output=True, check=True, env={}
    )
    assert not answer.stderr
    return dict(line.split("=", 1) for line in answer.stdout.decode().split("\0")[:-1])


def test_every_stage_of_the_templates_is_a_script_here() -> None:
    files = {path.name for path in (templates.FOLDER / "shell").glob("*.sh")}
    assert files == {part for stage in scripts.STAGES for part in scripts.parts(stage)}
    assert set(scripts.STAGES) == set(EVERY)


@pytest.mark.parametrize("stage", EVERY)
def test_the_same_input_makes_the_same_bytes(stage: str) -> None:
    script = EVERY[stage](SERVICE)
    assert script == EVERY[stage](SERVICE._replace())
    assert script.stage == stage
    assert script.text.isascii()
    assert script.text.startswith(f"# {stage} of myapp\n")
    assert script.text.endswith(templates.text(f"shell/{stage}.sh"))
    assert script.seconds > 0


@pytest.mark.parametrize("stage", EVERY)
@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_shell_can_read_it(stage: str, shell: str) -> None:
    text = EVERY[stage](SERVICE).text
    answer = subprocess.run([shell, *(["--posix"] if shell == "bash" else []), "-n"], input=text.encode(),
                            capture_output=True, check=False)  # fmt: skip
    assert (answer.returncode, answer.stderr) == (0, b"")


def test_only_setup_and_remove_need_root() -> None:
    made = {**EVERY, **STEPS}.items()
    assert {stage for stage, make in made if make(SERVICE).root} == {"setup", "remove"}
    assert {stage for stage, make in made if make(SERVICE).program} == set(STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_is_one_json_object_with_a_key_a_line(step: str) -> None:
    script = STEPS[step](SERVICE)
    assert script == STEPS[step](SERVICE._replace())
    told = json.loads(script.text)
    assert (told["program"], told["step"], told["name"]) == (host_program.digest(), step, "myapp")
    assert script.text.isascii()
    assert [line.split('"')[1] for line in script.text.splitlines() if line.startswith('  "')] == list(told)


def test_the_steps_are_those_that_the_program_knows() -> None:
    # A guard is told what its run was told.
    assert {*STEPS, "guard"} == set(main.STEPS)


def test_a_step_says_what_is_written_where_and_no_content() -> None:
    told = json.loads(STEPS["setup"](SERVICE).text)
    assert told["files"] == [{"path": file.path, "mode": f"{file.mode:04o}", "sha256": file.sha256} for file in FILES]
    assert (told["account"], told["packages"], told["origin"]) == ("deploy", ["nginx"], "origin")
    assert (told["take_over"], told["overwrite"]) == (False, False)


@given(path=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40))
@settings(max_examples=25, deadline=None)
def test_any_value_in_the_header_stays_a_value(path: str) -> None:
    hostile = SERVICE._replace(health=Health(path=path), nginx=Gateway(path))
    script = scripts.stage(hostile, Staging(path, path, path, None, False))
    # A line of the header that a value ends early would be the shell's own.
    words = shlex.split(script.text[: script.text.index(templates.text("shell/prelude.sh"))], comments=True)
    for name in ("HEALTH_PATH", "FRONT_HOST", "VENV", "ID"):
        assert f"{name}={path}" in words


def test_the_header_says_what_the_service_says() -> None:
    found = header(EVERY["stage"](SERVICE))
    assert (found["NAME"], found["ROOT"], found["ID"]) == ("myapp", "/opt/apps/myapp", ID)
    assert (found["HEALTH_PASSES"], found["HEALTH_SETTLE"], found["HEALTH_PAUSE"]) == ("3", "200", "1.00")
    assert (found["FRONT"], found["FRONT_HOST"], found["LISTEN"]) == ("https", "myapp.example", "127.0.0.1:8080")
    assert found["PROCESSES"] == "myapp-worker.service myapp-nightly.timer"


@pytest.mark.parametrize(
    ("passes", "settle", "pause"),
    [(1, 0.0, "0.00"), (1, 2.0, "2.00"), (2, 1.0, "1.00"), (3, 2.0, "1.00"), (4, 1.0, "0.34")],
)
def test_the_passes_are_spread_over_the_settle_time_and_never_shorter(passes: int, settle: float, pause: str) -> None:
    service = SERVICE._replace(health=Health(passes=passes, settle=settle))
    assert header(EVERY["stage"](service))["HEALTH_PAUSE"] == pause
    assert float(pause) * max(1, passes - 1) >= settle


@pytest.mark.parametrize(
    ("nginx", "front"),
    [
        (None, "listen"),
        (Gateway("a", Tls("off")), "http"),
        (Gateway("a"), "https"),
        (Gateway("a", Tls("files", "c", "k")), "https"),
    ],
)
def test_the_front_door_is_what_the_service_has(nginx: Gateway | None, front: str) -> None:
    assert scripts.front(SERVICE._replace(nginx=nginx)) == front


def test_a_script_has_longer_than_all_that_it_may_wait_for() -> None:
    script = STEPS["activate"](SERVICE)
    assert script.seconds > SERVICE.health.timeout + 2 * SERVICE.drain


def test_a_place_without_a_value_is_a_fault_and_nothing_else_is_special() -> None:
    with pytest.raises(KeyError):
        templates.fill("host-readme")
    filled = templates.fill("host-readme", name="{{name}} $NAME \\1")
    assert "{{name}} $NAME \\1" in filled
