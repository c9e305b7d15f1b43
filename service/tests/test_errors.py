from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, abort, redirect
from flask.testing import FlaskClient
from werkzeug.wrappers import Response


def divide() -> str:
    return str(1 // 0)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("POST", "/healthz", 405), ("GET", "/divide", 500), ("GET", "/teapot", 418)],
)
def test_errors_are_json(app: Flask, method: str, path: str, status: int) -> None:
    app.add_url_rule("/divide", view_func=divide)
    app.add_url_rule("/teapot", view_func=lambda: abort(418, "short <and> stout"), endpoint="teapot")
    response = app.test_client().open(path, method=method, headers={"X-Request-ID": "abcdefgh-1"})
    error = response.get_json()["error"]
    assert (response.status_code, response.mimetype) == (status, "application/json")
    assert (error["status"], error["request_id"]) == (status, "abcdefgh-1")
    assert error["name"]
    assert error["message"]
    if status == 405:
        assert "GET" in response.headers["Allow"]


def test_a_traceback_goes_to_the_log_alone(app: Flask, lines: Callable[[], list[dict[str, Any]]]) -> None:
    app.add_url_rule("/divide", view_func=divide)
    body = app.test_client().get("/divide").get_data(as_text=True)
    assert "ZeroDivisionError" not in body
    assert "Traceback" not in body
    tracebacks = [line["traceback"] for line in lines() if "traceback" in line]
    assert len(tracebacks) == 1
    assert "ZeroDivisionError" in tracebacks[0]


def test_a_body_over_the_cap_is_refused(client: FlaskClient) -> None:
    response = client.post("/commands/disk-usage", data=b" " * 70_000, content_type="application/json")
    assert (response.status_code, response.get_json()["error"]["status"]) == (413, 413)


def test_a_redirect_is_no_error(app: Flask) -> None:
    def away() -> Response:
        return redirect("/healthz")

    app.add_url_rule("/away", view_func=away)
    assert app.test_client().get("/away").headers["Location"] == "/healthz"
