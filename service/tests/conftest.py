"""Fixtures of the service's tests: a client of the application, and its log as parsed lines. No host, no network."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

sys.path.insert(0, str(Path(__file__).parents[2]))

from service.app import create_app

Line = dict[str, Any]


@pytest.fixture(autouse=True)
def state(tmp_path: Path) -> Path:
    """Make the state directory."""
    made = tmp_path / "state"
    made.mkdir()
    return made


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    """Set the variables that a deploy sets, and drop those of the developer's shell."""
    for name in ("LOG_LEVEL", "TRUSTED_PROXIES", "MAX_BODY", "REQUEST_TIMEOUT", "GREETING", "API_TOKENS"):
        monkeypatch.delenv(name, raising=False)
    given = {"SERVICE": "myapp", "RELEASE": "0123456789ab", "HOST": "shire01", "STATE_DIRECTORY": str(state)}
    for name, value in given.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Restore the root logger, which the application takes over."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def written() -> StringIO:
    """Hold what the application writes to its stdout."""
    return StringIO()


@pytest.fixture
def app(written: StringIO) -> Flask:
    """Make the application, with its log in `written`; as in production it answers 500 instead of raising."""
    with redirect_stdout(written):
        return create_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Make a client without a token."""
    return app.test_client()


ClientWith = Callable[[str], FlaskClient]


@pytest.fixture
def client_with(app: Flask) -> ClientWith:
    """Return a function that makes a client with a token of a role."""

    def make(role: str) -> FlaskClient:
        token = app.test_cli_runner().invoke(args=["token", "create", f"test-{role}", "--role", role]).stdout.strip()
        client = app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        return client

    return make


@pytest.fixture
def admin(client_with: ClientWith) -> FlaskClient:
    """Make a client that may use every route."""
    return client_with("admin")


@pytest.fixture
def lines(written: StringIO) -> Callable[[], list[Line]]:
    """Return a function that reads the whole log and fails if a line is not one JSON object of printable ASCII."""

    def read() -> list[Line]:
        text = written.getvalue()
        assert all(character == "\n" or " " <= character <= "~" for character in text)
        parsed = [json.loads(line) for line in text.split("\n") if line]
        assert all(isinstance(line, dict) for line in parsed)
        return parsed

    return read
