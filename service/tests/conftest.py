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
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables that a deploy sets, and drop those of the developer's shell."""
    for name in ("LOG_LEVEL", "TRUSTED_PROXIES", "STATE_DIRECTORY", "GREETING"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"SERVICE": "myapp", "RELEASE": "0123456789ab", "HOST": "shire01"}.items():
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
    """Make a client of the application."""
    return app.test_client()


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
