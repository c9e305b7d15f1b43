from __future__ import annotations

import json
import logging
import sys
from logging.config import dictConfig

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.app import logs

JOURNAL_LINE = 48 * 1024


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("test", logging.WARNING, __file__, 1, "%s", (message,), None)
    made.__dict__["fields"] = fields
    return made


@settings(deadline=None)
@given(st.text(), st.dictionaries(st.sampled_from(["path", "remote"]), st.text() | st.integers() | st.none()))
def test_any_record_is_one_printable_line(message: str, fields: dict[str, object]) -> None:
    line = logs.JsonLines().format(record(message, **fields))
    assert all(" " <= character <= "~" for character in line)
    entry = json.loads(line)
    assert entry["level"] == "warning"
    assert {key: entry[key] for key in fields} == fields


@pytest.mark.parametrize("character", ["x", "\x00", "\u2028", "\U0001f600", "\udcff"])
def test_no_line_is_longer_than_the_journal_takes(character: str) -> None:
    huge = character * 100_000
    made = record(huge, path=huge, remote=huge)
    try:
        raise RuntimeError(huge + "the cause")
    except RuntimeError:
        made.exc_info = sys.exc_info()
    line = logs.JsonLines().format(made)
    assert len(line) < JOURNAL_LINE
    assert json.loads(line)["traceback"].endswith("the cause")


def test_what_json_does_not_know_is_shown() -> None:
    assert json.loads(logs.JsonLines().format(record("x", thing={1, 2})))["thing"] == "{1, 2}"


@pytest.mark.parametrize(("level", "seen"), [("DEBUG", ["debug", "info"]), ("info", ["info"]), ("ERROR", [])])
def test_the_level_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], level: str, seen: list[str]
) -> None:
    monkeypatch.setenv("LOG_LEVEL", level)
    dictConfig(logs.settings())
    logging.getLogger("anything").debug("x")
    logging.getLogger("anything").info("x")
    assert [json.loads(line)["level"] for line in capsys.readouterr().out.splitlines()] == seen


def test_a_level_that_is_none_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "loud")
    assert logs.settings()["root"] == {"handlers": ["stdout"], "level": "INFO"}
