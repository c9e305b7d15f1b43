from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.app import health

IDENTITY = {"service": "myapp", "release": "0123456789ab", "host": "shire01"}


def test_healthz_says_who_answers(client: FlaskClient) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.get_json()) == (200, {"status": "ok", **IDENTITY})


def names(folder: Path) -> set[str]:
    """Return what lies there, without the files that a SQLite has while it is open."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(("-wal", "-shm"))}


def test_readyz_names_release_and_checks(client: FlaskClient, state: Path) -> None:
    before = names(state)
    response = client.get("/readyz")
    answer = response.get_json()
    assert response.status_code == 200
    assert {key: answer[key] for key in IDENTITY} == IDENTITY
    assert all(check["ok"] for check in answer["checks"])
    assert {"state_is_writable", "programs_are_installed"} <= {check["name"] for check in answer["checks"]}
    assert all(0 <= check["ms"] < 5000 for check in answer["checks"])
    assert names(state) == before


def passing() -> None:
    """Nothing is wrong."""


def failing() -> None:
    raise health.CheckError("the database is away")


def crashing() -> None:
    raise RuntimeError("password=hunter2")


@pytest.mark.parametrize(
    ("check", "status", "error"),
    [
        (passing, 200, None),
        (failing, 503, "the database is away"),
        (crashing, 503, "RuntimeError: the log says more"),
    ],
)
def test_readyz_is_as_good_as_its_checks(app: Flask, check: health.Check, status: int, error: str | None) -> None:
    health.add(app, passing)
    health.add(app, check)
    response = app.test_client().get("/readyz")
    answer = response.get_json()
    assert response.status_code == status
    assert answer["status"] == ("ok" if status == 200 else "failing")
    assert [answer["checks"][-1].get("error"), answer["checks"][-2]["ok"]] == [error, True]


def test_a_failed_check_is_in_the_log(
    client: FlaskClient, lines: Callable[[], list[dict[str, Any]]], state: Path
) -> None:
    shutil.rmtree(state)
    response = client.get("/readyz")
    assert response.status_code == 503
    (failed_check,) = [check for check in response.get_json()["checks"] if check["name"] == "state_is_writable"]
    assert failed_check["error"] == "cannot write to the state directory: No such file or directory"
    failed = [line for line in lines() if line["message"] == "check state_is_writable failed"]
    assert [line["level"] for line in failed] == ["error"]
    assert "FileNotFoundError" in failed[0]["traceback"]
