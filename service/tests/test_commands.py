from __future__ import annotations

import re
import string
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from service.app.commands import COMMANDS
from service.app.parameters import Choice, Number, ParameterError, Text
from service.app.tokens import ROLES
from service.app.wrapping import Command


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_place_has_its_parameter(command: Command) -> None:
    places = {
        name for part in command.argv for _text, name, _format, _conversion in string.Formatter().parse(part) if name
    }
    assert places == set(command.parameters)


def test_every_role_is_one() -> None:
    assert {command.role for command in COMMANDS} <= set(ROLES)


def test_time_limits_end_before_the_drain_does() -> None:
    assert all(0 < command.timeout < 30 for command in COMMANDS)


WIDE = Command(
    name="wide",
    about="lets through as much as a command can",
    argv=("printf", "%s", "--text={text}", "{text}", "{number}", "{choice}"),
    parameters={
        "text": Text("anything", pattern="(?s).*"),
        "number": Number("some", least=-9, most=9),
        "choice": Choice("one", values=("{text}", "$(id)", "a b")),
    },
)


def values(kind: Text | Number | Choice) -> st.SearchStrategy[Any]:
    """Make values of which a parameter allows most."""
    if isinstance(kind, Number):
        return st.integers(kind.least, kind.most)
    if isinstance(kind, Choice):
        return st.sampled_from(kind.values)
    return st.from_regex(re.compile(kind.pattern, re.ASCII), fullmatch=True)


@pytest.mark.parametrize("command", [*COMMANDS, WIDE], ids=lambda command: command.name)
@settings(deadline=None)
@given(data=st.data())
def test_what_is_sent_is_refused_or_arrives_in_its_place_as_it_is(command: Command, data: st.DataObject) -> None:
    sent = {
        name: data.draw(values(kind) | st.text(st.characters()), label=name)
        for name, kind in command.parameters.items()
    }
    try:
        argv = command.arguments(sent)
    except ParameterError:
        return
    assert argv == [re.sub(r"\{(\w+)\}", lambda place: str(sent[place[1]]), part) for part in command.argv]
    assert not any(b"\0" in argument.encode() for argument in argv)


def test_the_list_shows_what_to_send(admin: FlaskClient) -> None:
    commands = {command["name"]: command for command in admin.get("/commands").get_json()["commands"]}
    assert list(commands) == [command.name for command in COMMANDS]
    command = commands["disk-usage"]
    assert (command["role"], command["timeout"]) == ("operator", 5)
    kinds = {name: parameter["type"] for name, parameter in command["parameters"].items()}
    assert kinds == {"path": "text", "block": "choice"}


@pytest.mark.parametrize("block", ["1", "1K", "1M", "1G"])
def test_disk_usage_of_the_root(admin: FlaskClient, block: str) -> None:
    answer = admin.post("/commands/disk-usage", json={"path": "/", "block": block}).get_json()
    header, row = answer["stdout"].splitlines()
    assert "Capacity" in header
    assert row.split()[-1] == "/"


def test_disk_usage_of_nothing(admin: FlaskClient) -> None:
    response = admin.post("/commands/disk-usage", json={"path": "/no/such/path"})
    assert (response.status_code, response.get_json()["exit_status"]) == (422, 1)
    assert "No such file" in response.get_json()["stderr"]
