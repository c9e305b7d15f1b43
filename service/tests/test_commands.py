from __future__ import annotations

import string

import pytest
from flask.testing import FlaskClient

from service.app.commands import COMMANDS
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


def test_the_list_shows_what_to_send(admin: FlaskClient) -> None:
    (command,) = admin.get("/commands").get_json()["commands"]
    assert (command["name"], command["role"], command["timeout"]) == ("disk-usage", "operator", 5)
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
