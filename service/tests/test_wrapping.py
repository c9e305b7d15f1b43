from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st

from service.app import auth, errors, health, logs, settings, wrapping
from service.app.parameters import Choice, Number, ParameterError, Text
from service.app.wrapping import Command

ECHO = Command(
    name="echo",
    about="says it again",
    argv=("printf", "%s\n", "--count={count}", "{word}", "{mood}"),
    parameters={
        "word": Text("what", pattern=r"\S+"),
        "count": Number("how often", least=0, most=9, default=0),
        "mood": Choice("how", values=("loud", "quiet"), default="quiet"),
    },
)
FAIL = Command("fail", "fails", ("sh", "-c", "echo no >&2; exit 3"))
SLOW = Command("slow", "takes too long", ("sleep", "300"), timeout=0.2)
LONG = Command("long", "says too much", ("printf", "%s", "x" * 50), max_output=10)
GONE = Command("gone", "is not installed", ("no-such-program",))


def serve(*commands: Command, at_once: int = 2) -> FlaskClient:
    """Make an application of these commands alone, and a client that may run them all."""
    app = Flask(__name__)
    app.config.update(settings.load())
    for module in (errors, auth, health):
        module.init_app(app)
    wrapping.add(app, commands, at_once)
    flask = app.test_cli_runner()
    flask.invoke(args=["token", "revoke", "test"])
    client = app.test_client()
    token = flask.invoke(args=["token", "create", "test", "--role", "admin"]).stdout.strip()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return client


@pytest.mark.parametrize(
    ("given", "argv"),
    [
        ({"word": "a"}, ["--count=0", "a", "quiet"]),
        ({"word": "{count}", "mood": "loud", "count": 9}, ["--count=9", "{count}", "loud"]),
    ],
)
def test_values_take_their_places(given: dict[str, object], argv: list[str]) -> None:
    assert ECHO.arguments(given)[2:] == argv


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "word is required"),
        ({"word": None}, "word must be a string"),
        ({"word": "a", "count": None}, "count must be a whole number"),
        ({"word": "a", "count": 10}, "count must be from 0 to 9"),
        ({"word": "-n"}, "word must not begin with a dash"),
        ({"word": "a", "words": "b"}, "unknown parameter 'words'; known: word, count, mood"),
    ],
)
def test_what_is_not_allowed_is_named(given: dict[str, object], reason: str) -> None:
    with pytest.raises(ParameterError) as refused:
        ECHO.arguments(given)
    assert str(refused.value) == reason


@pytest.mark.parametrize(
    ("command", "sent", "status", "answer"),
    [
        (ECHO, {"word": "$(id)"}, 200, {"exit_status": 0, "stdout": "--count=0\n$(id)\nquiet\n", "truncated": False}),
        (FAIL, {}, 422, {"exit_status": 3, "stdout": "", "stderr": "no\n", "truncated": False}),
        (LONG, {}, 200, {"stdout": "x" * 10, "truncated": True}),
    ],
)
def test_the_outcome_is_the_answer(command: Command, sent: object, status: int, answer: dict[str, Any]) -> None:
    response = serve(command).post(f"/commands/{command.name}", json=sent)
    body = response.get_json()
    assert response.status_code == status
    outcome = {"command", "exit_status", "stdout", "stderr", "seconds", "truncated"}
    problem = {"type", "title", "status", "detail", "request_id"} if status == 422 else set()
    assert set(body) == outcome | problem
    assert response.mimetype == ("application/problem+json" if problem else "application/json")
    assert {key: body[key] for key in answer} == answer


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "message"),
    [
        ("/commands/nothing", b"{}", "application/json", 404, "no command 'nothing'"),
        ("/commands/echo", b'{"word": "-n"}', "application/json", 400, "word must not begin with a dash"),
        ("/commands/echo", b'["word"]', "application/json", 400, "send a JSON object"),
        ("/commands/echo", b'{"word": ', "application/json", 400, ""),
        ("/commands/echo", b"", "application/json", 400, ""),
        ("/commands/echo", b"[" * 60_000, "application/json", 400, "nested too deeply"),
        ("/commands/echo", b'{"count": ' + b"9" * 9000 + b"}", "application/json", 400, ""),
        ("/commands/echo", b"\xff\xfe", "application/json", 400, ""),
        ("/commands/echo", b"word=a", "application/x-www-form-urlencoded", 415, ""),
        ("/commands/slow", b"{}", "application/json", 504, "slow took longer than 0.2 seconds and was stopped"),
        ("/commands/gone", b"{}", "application/json", 500, ""),
    ],
)
def test_what_cannot_be_done_is_an_error(path: str, body: bytes, kind: str, status: int, message: str) -> None:
    response = serve(ECHO, SLOW, GONE).post(path, data=body, content_type=kind)
    assert response.status_code == status
    assert message in response.get_json()["detail"]


@tries(deadline=None)
@given(body=st.binary() | st.text().map(str.encode) | st.from_regex(rb'\{"(word|count|mood)": ?("\w*"|\d+)\}'))
def test_no_body_is_a_crash(body: bytes) -> None:
    response = serve(ECHO).post("/commands/echo", data=body, content_type="application/json")
    assert response.status_code in (200, 400)


def test_more_at_once_than_allowed_come_again(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    client = serve(Command("wait", "waits for the gate", ("cat", str(gate))), ECHO, at_once=1)
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(client.post("/commands/wait", json={}).status_code)

    waiting = threading.Thread(target=ask)
    waiting.start()
    with gate.open("w"):  # returns when the command reads
        refused = client.post("/commands/echo", json={"word": "a"})
    waiting.join(10)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert statuses == [200]
    assert client.post("/commands/echo", json={"word": "a"}).status_code == 200


def test_a_place_is_given_back_after_every_failure() -> None:
    client = serve(SLOW, GONE, ECHO, at_once=1)
    statuses = [
        client.post(f"/commands/{name}", json={"word": "a"} if name == "echo" else {}).status_code
        for name in ("slow", "gone", "echo")
    ]
    assert statuses == [504, 500, 200]


def test_the_log_tells_which_command_ran(admin: FlaskClient, lines: Callable[[], list[dict[str, Any]]]) -> None:
    admin.post("/commands/disk-usage", json={"path": "/"})
    ran, answered = lines()
    assert (ran["command"], ran["exit_status"], ran["request_id"]) == ("disk-usage", 0, answered["request_id"])


def test_a_command_has_a_role_of_its_own(client_with: Callable[[str], FlaskClient]) -> None:
    reader = client_with("reader")
    assert reader.get("/commands").status_code == 200
    refused = reader.post("/commands/disk-usage", json={"path": "/"})
    assert (refused.status_code, refused.get_json()["title"]) == (403, "Forbidden")
    assert reader.post("/commands/nothing", json={}).status_code == 404
    assert client_with("operator").post("/commands/disk-usage", json={"path": "/"}).status_code == 200


def test_a_command_that_names_no_role_is_for_admins() -> None:
    assert Command("x", "x", ("true",)).role == "admin"


def test_a_missing_program_fails_the_check() -> None:
    answer = serve(FAIL, GONE).get("/readyz")
    assert (answer.status_code, answer.get_json()["checks"][-1]["error"]) == (503, "not found: no-such-program")


def test_the_program_gets_the_id_of_the_request() -> None:
    client = serve(Command("id", "says the id", ("printenv", "REQUEST_ID")))
    token = logs.request_id.set("abcdefgh-1")
    try:
        assert client.post("/commands/id", json={}).get_json()["stdout"] == "abcdefgh-1\n"
    finally:
        logs.request_id.reset(token)
