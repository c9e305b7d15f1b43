from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.app import create_app


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("LOG_LEVEL", "loud", "LOG_LEVEL must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL, not 'loud'"),
        ("TRUSTED_PROXIES", "yes", "TRUSTED_PROXIES must be a whole number from 0 to 10, not 'yes'"),
        ("TRUSTED_PROXIES", "-1", "TRUSTED_PROXIES must be a whole number from 0 to 10, not '-1'"),
        ("TRUSTED_PROXIES", "1.5", "TRUSTED_PROXIES must be a whole number from 0 to 10, not '1.5'"),
        ("MAX_BODY", "64k", "MAX_BODY must be a whole number from 0 to 1099511627776, not '64k'"),
        ("MAX_BODY", "9" * 5000, "MAX_BODY must be a whole number from 0 to 1099511627776, not '9"),
        ("REQUEST_TIMEOUT", "0", "REQUEST_TIMEOUT must be a whole number from 1 to 86400, not '0'"),
        ("REQUEST_TIMEOUT", "5", "the timeout of disk-usage, 5, must be less than REQUEST_TIMEOUT, 5"),
    ],
)
def test_a_wrong_one_stops_the_start_with_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        create_app()
    assert stopped.value.code == 4
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert line["message"].startswith(reason)
    assert "traceback" not in line


def test_an_empty_one_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_BODY", "")
    assert create_app().config["MAX_CONTENT_LENGTH"] == 64 * 1024


@pytest.mark.parametrize("value", ["debug", "DEBUG", "Debug"])
def test_case_does_not_count(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("LOG_LEVEL", value)
    assert create_app().config["LOG_LEVEL"] == "DEBUG"


def test_a_developer_gets_a_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("HOME", str(tmp_path))
    made = Path(create_app().config["STATE_DIRECTORY"])
    assert (made, made.is_dir()) == (tmp_path / ".local/state/myapp", True)
