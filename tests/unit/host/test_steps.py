"""The printed steps are those that a host gets: for every verb, in every situation, byte for byte."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from tasks import plan_view
from tasks.engine.config.sections import Hooks
from tasks.engine.deploy import rollback
from tasks.engine.fleet.member import Member
from tasks.engine.host import host_program, steps
from tasks.engine.host.facts import Facts
from tasks.engine.host.history import Action
from tasks.engine.host.questions import Question
from tasks.engine.host.steps import Consent, HostStep
from tasks.engine.ssh.session import Run, opening, stream
from tests.support.clone import Clone, make, quicken
from tests.support.host_facts import COMMITTED, NEW, OLD, TRIED
from tests.support.hosts import MakeHosts
from tests.support.site import Site
from tests.support.small_service import SERVICE
from tests.unit.deploy.test_plan import host, planned

HEADING = re.compile(r"# ---- (\S+): (\w+) \((\d+) bytes\)\n")


def printed(text: str) -> list[tuple[str, str]]:
    """Return name and text of each step; only the heading before a step is not sent to the host."""
    found, at = [], 0
    while at < len(text):
        heading = HEADING.match(text, at)
        assert heading, text[at : at + 100]
        at = heading.end() + int(heading[3])
        found.append((heading[2], text[heading.end() : at]))
    return found


class Answering(Member):
    """A member whose host has reported these facts."""

    def __init__(self, found: Facts) -> None:
        of = cast(Any, type("Host", (), {"name": "shire01", "user": "deploy", "python": None, "groups": ()}))
        super().__init__(of, SERVICE, cast(Any, None), cast(Any, None))
        self._found = found

    def ask(self, question: Question, more: HostStep | None = None) -> Facts:  # noqa: ARG002 - whatever is asked
        return self._found


def ran_both(changes: Mapping[str, object] | None = None) -> Answering:
    """Return a member whose host ran OLD before NEW."""
    actions = tuple(Action("t", name, "deploy", name, "done", {}) for name in (OLD, NEW))
    return Answering(host(changes)._replace(actions=actions))


def switch(
    action: str, wanted: str | None = None, *, stop_first: bool = False, changes: Mapping[str, object] | None = None
) -> Sequence[HostStep]:
    """Return the steps of a rollback or a restart on a host that ran OLD before NEW."""
    return rollback.plan_reactivation(ran_both(changes), action, wanted, 5, stop_first).steps


HOOKED = SERVICE._replace(hooks=Hooks(before_activate="python -m migrate"))
SITUATIONS: dict[str, Sequence[HostStep]] = {
    "first deploy": planned(host({"state current": "", "state live": "", "record account": ""})).steps(),
    "code change": planned(host({COMMITTED: OLD})).steps(),
    "a release that is not there": planned(host({COMMITTED: OLD})._replace(releases=({"id": OLD},))).steps(),
    "before_activate": planned(host({COMMITTED: OLD}))._replace(service=HOOKED).steps(hook=True, wait=60),
    "on probation": planned(host({COMMITTED: OLD, "state live": "green", TRIED: "d" * 12})).steps(),
    "what serves is killed first": planned(host({COMMITTED: OLD})).steps(stop_first=True),
    "rollback": switch("rollback"),
    "rollback to a release": switch("rollback", OLD[:4], stop_first=True),
    "rollback from a probation": switch("rollback", changes={"state live": "green", TRIED: OLD, "state probation": 9}),
    "restart": switch("restart"),
    "undo": (steps.activate(SERVICE, steps.Activation("undo", OLD, NEW)),),
    "stop": (steps.stop(SERVICE, disable=False),),
    "stop for good": (steps.stop(SERVICE, disable=True),),
    "start": (steps.start(SERVICE),),
    "maintenance on": (steps.maintenance(SERVICE, "on"),),
    "maintenance off": (steps.maintenance(SERVICE, "off"),),
    "setup": (planned(host({"record account": ""})).setup._replace(consent=Consent(True, True)).step(SERVICE),),
    "remove": (steps.remove(SERVICE, data=False),),
    "remove with the data": (steps.remove(SERVICE, data=True),),
}


def as_received(step: HostStep) -> str:
    """Return the step as its reader on the host gets it, from all data sent."""
    rest = opening(step.place) + b"".join(stream(step, Run("r", '{"user":"me"}'), "nonce", (b"payload",)))

    def frame() -> bytes:
        nonlocal rest
        length, _, rest = rest.partition(b"\n")
        found, rest = rest[: int(length)], rest[int(length) :]
        return found

    assert frame().decode() == host_program.STARTER
    place, _, rest = rest.partition(b"\n")
    if not place:
        assert zlib.decompress(frame()).decode() == host_program.text()
    assert rest.startswith(b'nonce\nr\n{"user":"me"}\n\n')
    rest = rest.split(b"\n", 4)[4]
    text = frame().decode()
    assert rest == b"payload"
    return text


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_step_is_printed_as_it_is_sent(situation: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = SITUATIONS[situation]
    plan_view.show_steps([("shire01", found)])
    shown = printed(capsys.readouterr().out)
    assert [name for name, _ in shown] == [step.name for step in found]
    for (_, text), step in zip(shown, found, strict=True):
        for place in {step.place, ""}:
            assert as_received(step._replace(place=place)) == text


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_step_is_data_of_a_few_kb(situation: str) -> None:
    for step in SITUATIONS[situation]:
        assert json.loads(step.text)["step"] == step.name
        # Root's part names each of its files.
        assert len(step.text) < 8192 or step.name == "setup"


@pytest.mark.parametrize(
    ("action", "changes", "change"),
    [
        ("rollback", None, f"rollback {NEW} -> {OLD}"),
        ("rollback", {"state live": "green", TRIED: "d" * 12, "state probation": 9}, f"rollback {'d' * 12} -> {NEW}"),
        ("restart", None, f"restart {NEW} -> {NEW}"),
    ],
)
def test_a_dry_run_names_the_release_that_has_the_traffic(
    action: str, changes: Mapping[str, object] | None, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once: in a probation it named only the committed release, to which the rollback goes."""
    member = ran_both(changes)
    plan_view.dry_reactivation([member], lambda each: rollback.plan_reactivation(each, action, None, 0))
    ended = capsys.readouterr()
    assert ended.err == f"shire01: {change}\n"
    assert [name for name, _ in printed(ended.out)] == ["facts", "hold", "activate"]


# The rest needs a real host.

RECORDER = """#!/bin/sh
# Records the first input of every script: the script.
exec /usr/bin/head "$@" | tee "/var/tmp/received/$(date +%s%N)"
"""
PYTHON_RECORDER = """#!/bin/bash
# Records the input of the host's program (itself if sent, the lines of the run, and the step) under the time at which
# the first line of the run arrives: the interpreter may have been started, and sent the program, long before. Its
# children take this script for the interpreter: a copy of the program names the interpreter that made it.
sent=$(mktemp)
case $* in
  *stream*)
    IFS= read -r length
    { echo "$length"; /usr/bin/head -c "$length"; } >"$sent"
    ;;
esac
case $* in
  *stream* | *__main__.py*)
    IFS= read -r -N 1 first
    { cat "$sent"; printf %s "$first"; cat; } | tee "/var/tmp/received/$(date +%s%N)" |
      (exec -a /usr/bin/python3 /usr/bin/python3.11 "$@")
    ;;
  *) exec /usr/bin/python3.11 "$@" ;;
esac
"""
RUNS = re.compile(rb"[0-9a-f]{16}\n\S+\n{.*}\n\n")


def steps_of(data: bytes) -> list[str]:
    """Return the steps from all input of the host's program, with their payloads; a script is whole already."""
    length, _, rest = data.partition(b"\n")
    if rest.startswith(zlib.compress(b"")[:2]):
        data = rest[int(length) :]
    if not RUNS.match(data):
        return [data.decode("utf-8", "replace")]
    rests = (data[match.end() :].partition(b"\n") for match in RUNS.finditer(data))
    return [rest[: int(length)].decode() for length, _, rest in rests]


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A pristine host that records its input."""
    hosts = module_hosts()
    made = Site(make(tmp_path_factory.mktemp("steps"), hosts.inventory), hosts[0])
    quicken(made.clone)
    machine = made.machine
    assert machine.sh("mkdir -m 1777 /var/tmp/received").returncode == 0
    assert machine.sh("tee /usr/local/bin/head && chmod 755 /usr/local/bin/head", RECORDER.encode()).returncode == 0
    kept = "rm /usr/bin/python3 && tee /usr/bin/python3 && chmod 755 /usr/bin/python3"
    assert machine.sh(kept, PYTHON_RECORDER.encode()).returncode == 0
    return made


def run_recorded(site: Site, clone: Clone, *words: str) -> list[tuple[str, str]]:
    """Run a command; return name and text of each step on the host."""
    site.sh("rm -f /var/tmp/received/*")
    clone.done(*words)
    site.drained()
    texts = [site.machine.sh(f"cat /var/tmp/received/{name}").stdout
             for name in site.sh("ls /var/tmp/received").split()]  # fmt: skip
    steps = [step for text in texts for step in steps_of(text)]
    steps = [text for text in steps if re.match(r'# \w+ of myapp\n|{\n  "program"', text)]
    named = [(json.loads(text)["step"] if text.startswith("{") else text.split(" ", 2)[1], text) for text in steps]
    # systemd starts the guard, with the data that the activation left to it.
    return [(name, text) for name, text in named if name != "guard"]


HERE = ("-H", "shire01")
VERBS: list[tuple[str, ...]] = [
    ("deploy", *HERE),
    ("deploy", *HERE, "--stop-first"),
    ("rollback", *HERE),
    ("restart", *HERE),
    ("stop", *HERE, "--disable"),
    ("start", *HERE),
    ("maintenance", "on", *HERE),
    ("maintenance", "off", *HERE),
    ("setup", *HERE),
    ("remove", *HERE, "--yes"),
]


@pytest.mark.sandbox
def test_what_is_printed_is_what_runs(site: Site) -> None:
    """Every verb, from a pristine host to one without any file of ours."""
    for number, words in enumerate((("deploy", *HERE), *VERBS)):
        if words[0] == "deploy":
            site.edit()
        if number == 1:
            yaml = "service/service.yaml"
            site.clone.write(yaml, site.read(yaml) + "hooks: {before_activate: echo migrated}\n")
        shown = printed(site.clone.done("--dry", *words).out)
        if words == ("deploy", *HERE):
            for flag in ("--steps", "--script"):
                assert printed(site.clone.done("plan", flag, *HERE).out) == shown
        # stop, start and maintenance first ask for the facts, which changes nothing.
        told = run_recorded(site, site.clone, *words)
        assert [name for name, _ in told if name != "facts"] == [name for name, _ in shown if name != "facts"], words
        assert [step for step in told if step[0] != "facts"] == [step for step in shown if step[0] != "facts"], words
        if any(name == "facts" for name, _ in shown):
            assert told[0] == shown[0], words
