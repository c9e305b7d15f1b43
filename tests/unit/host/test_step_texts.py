"""The text of a step for a host: a pure function, with a header that carries any value."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tasks.engine.config.gateway import Nginx, Tls
from tasks.engine.config.sections import Health
from tasks.engine.config.service import Service
from tasks.engine.host import host_program, steps, system_files, templates
from tasks.engine.host.questions import Question
from tasks.engine.host.steps import Activation, Change, HostStep, Installation, Staging
from tasks.engine.host.system_files import HostTraits
from templates.host import main
from templates.host import service as host_service
from tests.support.small_service import SERVICE

ID = "0123456789ab"
FILES = system_files.render(SERVICE, HostTraits("deploy", "www-data", True))
STEPS: dict[str, Callable[[Service], HostStep]] = {
    "setup": lambda service: steps.setup(service, Installation("deploy", ("nginx",), FILES, "origin")),
    "certify": steps.install_certificate,
    "stage": lambda service: steps.stage(
        service, Staging(ID, "1" * 16, "/usr/bin/python3", None, False, {"MANIFEST": "2" * 64})
    ),
    "facts": lambda service: steps.facts(service, Question(frozenset({"state"}), ("/etc/x",), "python3.12")),
    "libraries": lambda service: steps.libraries(service, {"libpq.so.5": ("/opt/pg/lib",)}),
    "activate": lambda service: steps.activate(service, Activation("deploy", ID, None)),
    "secret": lambda service: steps.secret(service, Change("set", "API_TOKEN", switch=True), "origin"),
    "hold": lambda service: steps.hold(service, "deploy", ID, 5),
    "hook": lambda service: steps.hook(service, ID),
    "command": lambda service: steps.command(
        service, steps.Command(("flask", "shell")), steps.Terminal("xterm", 24, 80)
    ),
    "stop": lambda service: steps.stop(service, disable=True),
    "start": steps.start,
    "maintenance": lambda service: steps.maintenance(service, "on"),
    "drift": lambda service: steps.drift(service, ("/etc/x",), {ID: {"MANIFEST": "3" * 64}}),
    "remove": lambda service: steps.remove(service, data=False),
}


def test_only_setup_certificates_secrets_and_remove_need_root() -> None:
    assert {step for step, make in STEPS.items() if make(SERVICE).root} == {"setup", "certify", "secret", "remove"}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_is_one_json_object_with_a_key_a_line(step: str) -> None:
    made = STEPS[step](SERVICE)
    assert made == STEPS[step](SERVICE._replace())
    told = json.loads(made.text)
    assert (told["program"], told["step"], told["name"]) == (host_program.digest(), step, "myapp")
    assert made.text.isascii()
    assert [line.split('"')[1] for line in made.text.splitlines() if line.startswith('  "')] == list(told)


def test_the_steps_are_those_that_the_program_knows() -> None:
    # A guard gets its run's step, and `status` is run by hand alone.
    assert {*STEPS, "guard", "status"} == set(main.STEPS)


def test_a_step_says_what_is_written_where_and_no_content() -> None:
    told = json.loads(STEPS["setup"](SERVICE).text)
    assert told["files"] == [{"path": file.path, "mode": f"{file.mode:04o}", "sha256": file.sha256} for file in FILES]
    assert (told["account"], told["packages"], told["origin"]) == ("deploy", ["nginx"], "origin")
    assert (told["take_over"], told["overwrite"]) == (False, False)


@pytest.mark.parametrize(
    ("passes", "settle", "pause"),
    [(1, 0.0, "0.00"), (1, 2.0, "2.00"), (2, 1.0, "1.00"), (3, 2.0, "1.00"), (4, 1.0, "0.34")],
)
def test_the_passes_are_spread_over_the_settle_time_and_never_shorter(passes: int, settle: float, pause: str) -> None:
    service = SERVICE._replace(health=Health(passes=passes, settle=settle))
    told = host_service.of(json.loads(STEPS["start"](service).text)).health
    assert f"{told.pause:.2f}" in {pause, f"{float(pause) - 0.01:.2f}"}
    assert told.pause * max(1, passes - 1) >= settle


def test_a_step_says_what_the_service_says() -> None:
    told = host_service.of(json.loads(STEPS["activate"](SERVICE).text))
    assert (told.name, told.root, told.drain) == ("myapp", "/opt/apps/myapp", SERVICE.drain)
    assert (told.health.path, told.health.passes, told.health.settle) == (SERVICE.health.path, 3, 2.0)
    assert told.front == ("https", "myapp.example", "127.0.0.1:8080", "")
    assert told.processes == (host_service.Process("myapp-worker", "worker", False, 40, ()),)
    assert told.timers == ("myapp-nightly.timer",)


@pytest.mark.parametrize(
    ("nginx", "front"),
    [
        (None, "listen"),
        (Nginx(("a",), Tls("off")), "http"),
        (Nginx(("a",)), "https"),
        (Nginx(("a",), Tls("files", "c", "k")), "https"),
    ],
)
def test_the_front_door_is_what_the_service_has(nginx: Nginx | None, front: str) -> None:
    assert steps.front(SERVICE._replace(nginx=nginx)) == front


def test_a_script_has_longer_than_all_that_it_may_wait_for() -> None:
    made = STEPS["activate"](SERVICE)
    assert made.seconds > SERVICE.health.timeout + 2 * SERVICE.drain


def test_a_place_without_a_value_is_a_fault_and_nothing_else_is_special() -> None:
    with pytest.raises(KeyError):
        templates.fill("host-readme")
    filled = templates.fill("host-readme", name="{{name}} $NAME \\1")
    assert "{{name}} $NAME \\1" in filled
