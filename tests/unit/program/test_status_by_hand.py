"""The host's own status for a person, from the facts: above all, the next step."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks.engine.host import system_files
from templates.host import by_hand, facts, locks, status_by_hand
from templates.host.fact_schema import Answers, Slot, State, Survey, plain
from templates.host.slot_names import SLOTS
from tests.support.small_service import SERVICE
from tests.unit.program.test_facts import take

OLD, NEW = "a" * 12, "b" * 12
WELL = State(
    current="blue",
    live="blue",
    slots={"blue": Slot("active", OLD, 1000), "green": Slot("inactive", NEW)},
    main_unit="active",
    nginx="active",
    health=Answers("ok", "ok"),
)
TRIED = WELL._replace(live="green", slots={"blue": Slot("active", OLD), "green": Slot("active", NEW)})
SICK = WELL._replace(health=Answers("answered 500, not 200: oh", "ok"))


def go(release: str) -> str:
    return by_hand.command("activate", release)


def line(release: str, action: str = "deploy", state: str = "done", **more: str) -> str:
    who = {"git": "ann", "host": "laptop"}
    return json.dumps({"time": "2026-01-01T00:00:00Z", "action": action, "release": release, "state": state,
                       "who": who, **more})  # fmt: skip


def status(
    state: State,
    *history: str,
    kept: tuple[str, ...] = (OLD, NEW),
    name: str = "nothing-of-ours",
    listen: str = "",
) -> status_by_hand.ServiceStatus:
    answer = facts.Answer()
    answer.members = {"state": plain(state), "survey": plain(Survey(uptime=1600, free_bytes=3_200_000_000))}
    answer.lines = [("release", json.dumps({"id": one})) for one in kept] + [("history", one) for one in history]
    return status_by_hand.ServiceStatus(name, "/opt/apps/myapp", answer, listen)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (WELL, f"nothing. Back to the release before: {go(NEW)}"),
        (WELL._replace(maintenance="{}"), "to let clients in: rm -r /opt/apps/myapp/maintenance"),
        (SICK, f"journalctl -u nothing-of-ours@blue.service -n 50; back to the release before: {go(NEW)}"),
        (SICK._replace(nginx="failed", health=Answers("ok", "no answer: ")), "as root: systemctl start nginx"),
        (
            WELL._replace(slots={"blue": Slot("failed", OLD), "green": Slot()}),
            f"as root: systemctl start nothing-of-ours; or back to the release before: {go(NEW)}",
        ),
        (TRIED._replace(probation=9), f"nothing: the host decides by itself. Back at once: {go(OLD)}"),
        (TRIED, f"no guard watches {NEW}, and a boot starts {OLD}. Back: {go(OLD)}"),
        (WELL._replace(abandoned=True), "nothing: the run is abandoned; it ends within minutes, "
                                     "or the next run ends it"),
        (State(slots={slot: Slot() for slot in SLOTS}), "fab deploy, from a controller"),
    ],
)  # fmt: skip
def test_it_ends_with_what_to_do(state: State, told: str) -> None:
    found = status(state, line(NEW), line(OLD))
    assert found.next_step() == told
    assert all(text for _, text in found.lines())


def test_a_closed_door_beside_which_another_is_open() -> None:
    closed = WELL._replace(maintenance="{}")
    assert dict(status(closed).lines())["maintenance"] == "ON: clients get 503"
    told = dict(status(closed, listen="127.0.0.1:8080").lines())["maintenance"]
    assert told == "ON: clients get 503; `listen: 127.0.0.1:8080` stays open"


FORM = re.compile(r"sudo setsid -w runuser -u (\S+|\$\([^)]*\)) -- .+ </dev/null 2>&1 \\?\| cat -v")


def test_no_text_lets_root_give_a_terminal_to_the_deploy_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: what root was told to type ran a file of the deploy account, which could type into root's shell."""
    monkeypatch.setenv("SUDO_USER", "root")
    monkeypatch.setattr("os.geteuid", lambda: 1)
    with pytest.raises(SystemExit) as refused:
        by_hand.parse(["status"], "/")
    texts = {
        "the command to go back": by_hand.command("activate", OLD),
        "the refusal": str(refused.value),
        "the usage": str(by_hand.__doc__),
        "the README on the host": system_files.readme(SERVICE),
        "HOST.md": (Path(__file__).resolve().parents[3] / "docs/HOST.md").read_text(),
    }
    for place, text in texts.items():
        assert FORM.search(text), place
        bare = [
            one
            for one in text.splitlines()
            if re.search(r"(sudo|runuser) -u .*__main__\.py", one) and not FORM.search(one)
        ]
        assert not bare, place


def test_a_release_that_was_left_is_not_what_it_goes_back_to() -> None:
    """A rollback of the controller would choose the same."""
    found = status(WELL, line(OLD), line(NEW), line(OLD, "rollback"))
    assert found.next_step() == "nothing"


def test_it_names_who_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "RUN", str(tmp_path))
    (tmp_path / "myapp/lock").mkdir(parents=True)
    for name in ("run", "activate"):
        (tmp_path / "myapp/lock" / name).touch()
    take(tmp_path, "run", json.loads(line(NEW)))
    found = status(WELL, name="myapp")
    assert dict(found.lines())["lock"] == f"deploy {NEW} by ann on laptop, since 2026-01-01T00:00:00Z"
    assert found.next_step() == "wait for the end of what is at work, and look again"


def test_since_when_and_until_when() -> None:
    history = (line(OLD), line(NEW, state="probation"), line(OLD, "stop", why="\x1b[2J"))
    found: Mapping[str, Any] = dict(status(TRIED._replace(probation=9), *history).lines())
    assert found["live"] == f"{NEW} on slot green since 2026-01-01T00:00:00Z (deploy by ann on laptop)"
    assert found["probation"].startswith("9 s more, until ")
    assert found["history"] == f"2026-01-01T00:00:00Z stop {OLD} done by ann on laptop: \x1b[2J"
    assert dict(status(WELL, *history).lines())["live"].endswith(", up for 600 s")


@pytest.mark.parametrize("text", ["[" * 10_000, "no JSON", "[1]", '{"who": 1}', ""])
def test_what_others_wrote_is_only_shown(text: str) -> None:
    assert dict(status(WELL, text).lines())["live"].startswith(f"{OLD} on slot blue")
