from __future__ import annotations

import hashlib
import hmac
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from service.app import create_app, tokens

ClientWith = Callable[[str], FlaskClient]


def flask(app: Flask, *words: str) -> Result:
    return app.test_cli_runner().invoke(args=["token", *words])


def made(app: Flask, name: str = "ci", *words: str) -> str:
    result = flask(app, "create", name, "--role", "admin", *words)
    assert result.exit_code == 0, result.output
    return result.stdout


def asks(app: Flask, token: str) -> int:
    return app.test_client().get("/commands", headers={"Authorization": f"Bearer {token.strip()}"}).status_code


def test_a_token_is_printed_alone_and_kept_as_a_hash(app: Flask, state: Path) -> None:
    result = flask(app, "create", "ci", "--role", "reader", "--days", "7")
    token = result.stdout.removesuffix("\n")
    assert token.startswith("myapp_")
    assert len(token) > 45
    assert token.isprintable()
    file = state / "tokens"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().endswith(f" {hashlib.sha256(token.encode()).hexdigest()}\n")
    assert result.stderr == ""
    assert token not in file.read_text()
    assert [path.name for path in state.glob("*token*")] == ["tokens"]


def test_no_two_are_the_same(app: Flask) -> None:
    assert made(app, "a") != made(app, "b")


def test_a_token_works_until_it_is_revoked_also_for_a_worker_that_runs(app: Flask) -> None:
    other = create_app()
    first, second = made(app, "first"), made(app, "second")
    assert (asks(other, first), asks(other, second)) == (200, 200)
    assert flask(app, "revoke", "first").exit_code == 0
    assert (asks(other, first), asks(other, second)) == (401, 200)


def test_a_token_ends_when_its_time_is_over(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    token = made(app, "ci", "--days", "2")
    shown = flask(app, "list").output
    assert shown.startswith("ci admin 20")
    assert "expired" not in shown
    later = tokens._time(3)
    monkeypatch.setattr(tokens, "_time", lambda: later)
    assert asks(app, token) == 401
    assert flask(app, "list").output.endswith(" expired\n")


def test_a_hash_is_compared_with_all_in_constant_time(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    equal = hmac.compare_digest

    def record(kept: str, given: str) -> bool:
        compared.append(kept)
        return equal(kept, given)

    first, _ = made(app, "first"), made(app, "second")
    monkeypatch.setattr(hmac, "compare_digest", record)
    assert (asks(app, first), len(compared)) == (200, 2)


def test_the_list_shows_no_hash(app: Flask, state: Path) -> None:
    made(app)
    assert (state / "tokens").read_text().split()[3] not in flask(app, "list").output


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        (("create", "ci", "--role", "admin"), 1, "there is a token ci"),
        (("create", "Ci", "--role", "admin"), 2, "a letter first"),
        (("create", "a b", "--role", "admin"), 2, "a letter first"),
        (("create", "a\nb", "--role", "admin"), 2, "a letter first"),
        (("create", "x" * 33, "--role", "admin"), 2, "a letter first"),
        (("create", "other"), 2, "--role"),
        (("create", "other", "--role", "root"), 2, "'root' is not one of"),
        (("create", "other", "--role", "admin", "--days", "0"), 2, "--days"),
        (("revoke", "c"), 1, "there is no token c"),
    ],
)
def test_a_request_that_cannot_be_met_changes_nothing(
    app: Flask, state: Path, words: tuple[str, ...], status: int, reason: str
) -> None:
    token = made(app)
    before = (state / "tokens").read_text()
    result = flask(app, *words)
    assert result.exit_code == status
    assert reason in result.stderr
    assert result.stdout == ""
    assert (state / "tokens").read_text() == before
    assert asks(app, token) == 200


@pytest.mark.parametrize(
    "damage", ["", "x", "ci admin", "\x00\xff", "# a note", "ci root 2999-01-01T00:00:00Z " + "0" * 64]
)
def test_a_damaged_line_gives_no_access_and_takes_none(app: Flask, state: Path, damage: str) -> None:
    token = made(app, "first")
    file = state / "tokens"
    file.write_bytes(f"{damage}\n".encode() + file.read_bytes())
    assert asks(app, token) == 200
    second = made(app, "second")
    assert asks(app, second) == 200
    assert len(flask(app, "list").output.splitlines()) == 2


@settings(deadline=None)
@given(st.text())
def test_no_other_text_is_a_token(text: str) -> None:
    app = create_app()
    with app.app_context():
        assert tokens.find(text.encode("utf-8", "replace").decode()) is None


def test_tokens_that_are_made_at_once_are_all_kept(app: Flask) -> None:
    names = [f"n{number}" for number in range(4)]
    argv = [sys.executable, "-m", "flask", "--app", "app", "token", "create", "--role", "reader"]
    service = Path(__file__).parents[1]
    at_work = [subprocess.Popen([*argv, name], cwd=service, stdout=subprocess.DEVNULL) for name in names]
    assert [process.wait() for process in at_work] == [0] * 4
    assert {line.split()[0] for line in flask(app, "list").output.splitlines()} == set(names)


def test_without_a_list_there_is_no_token(client: FlaskClient, client_with: ClientWith, app: Flask) -> None:
    assert flask(app, "list").output == ""
    assert flask(app, "revoke", "ci").exit_code == 1
    assert client.get("/commands").status_code == 401
    assert client_with("reader").get("/commands").status_code == 200


def test_the_tokens_of_a_secret_count_on_every_host_in_place_of_its_own(
    app: Flask, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = made(app, "own")
    moved, before = flask(app, "create", "moved", "--role", "admin"), (state / "tokens").read_bytes()
    monkeypatch.setenv("API_TOKENS", f"{before.decode().splitlines()[-1]}\n")
    shared = create_app()
    assert (asks(shared, moved.stdout), asks(shared, own)) == (200, 401)
    assert [line.split()[0] for line in flask(shared, "list").output.splitlines()] == ["moved"]
    added = flask(shared, "create", "added", "--role", "reader")
    assert (added.stdout.count("\n"), added.stderr.splitlines()[-1].split()[:2]) == (1, ["added", "reader"])
    assert flask(shared, "create", "moved", "--role", "reader").exit_code == 1
    revoked = flask(shared, "revoke", "moved")
    assert (revoked.exit_code, "the secret API_TOKENS" in revoked.stderr) == (1, True)
    assert ((state / "tokens").read_bytes(), asks(shared, moved.stdout)) == (before, 200)
    monkeypatch.setenv("API_TOKENS", "")
    assert asks(create_app(), own) == 401


@pytest.mark.parametrize("wrong", ["", "myapp_s3cret", "ci root 2999-01-01T00:00:00Z " + "0" * 64])
def test_a_secret_that_is_no_list_of_tokens_stops_the_start_and_is_not_shown(
    app: Flask, state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    made(app, "ci")
    line = (state / "tokens").read_text().strip()
    monkeypatch.setenv("API_TOKENS", f"{line}\n{wrong}\n{line}")
    with pytest.raises(SystemExit):
        create_app()
    said = capsys.readouterr().out
    assert '"line 2 of API_TOKENS must be NAME ROLE UNTIL SHA256"' in said
    assert not wrong or wrong not in said
