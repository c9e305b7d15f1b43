"""What the service's tests share: the application as a client, and its log as parsed lines. No host, no network."""

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
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the deploy tells the service, and nothing of the developer's own shell."""
    for name in ("LOG_LEVEL", "TRUSTED_PROXIES", "STATE_DIRECTORY", "GREETING"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"SERVICE": "myapp", "RELEASE": "0123456789ab", "HOST": "shire01"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Give the root logger back to pytest after the application took it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def written() -> StringIO:
    """What the application writes to its stdout."""
    return StringIO()


@pytest.fixture
def app(written: StringIO) -> Flask:
    """The application, its log going to `written`; it answers 500 like in production instead of raising."""
    with redirect_stdout(written):
        return create_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of the application."""
    return app.test_client()


@pytest.fixture
def lines(written: StringIO) -> Callable[[], list[Line]]:
    """Read the whole log; fails when a line is not one JSON object of printable ASCII."""

    def read() -> list[Line]:
        text = written.getvalue()
        assert all(character == "\n" or " " <= character <= "~" for character in text)
        parsed = [json.loads(line) for line in text.split("\n") if line]
        assert all(isinstance(line, dict) for line in parsed)
        return parsed

    return read
