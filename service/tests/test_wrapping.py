from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from service.app import errors, wrapping
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
    app = Flask(__name__)
    errors.install(app)
    app.register_blueprint(wrapping.endpoints(commands, at_once))
    return app.test_client()


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
    assert set(body) == {"command", "exit_status", "stdout", "stderr", "seconds", "truncated"}
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
    assert message in response.get_json()["error"]["message"]


@settings(deadline=None)
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
        statuses.append(client.application.test_client().post("/commands/wait", json={}).status_code)

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


def test_the_log_tells_which_command_ran(client: FlaskClient, lines: Callable[[], list[dict[str, Any]]]) -> None:
    client.post("/commands/disk-usage", json={"path": "/"})
    ran, answered = lines()
    assert (ran["command"], ran["exit_status"], ran["request_id"]) == ("disk-usage", 0, answered["request_id"])
