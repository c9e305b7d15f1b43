from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, abort, redirect, request
from flask.testing import FlaskClient
from werkzeug.wrappers import Response


def divide() -> str:
    return str(1 // 0)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("POST", "/healthz", 405), ("GET", "/divide", 500), ("GET", "/teapot", 418)],
)
def test_errors_are_problem_details(app: Flask, admin: FlaskClient, method: str, path: str, status: int) -> None:
    app.add_url_rule("/divide", view_func=divide)
    app.add_url_rule("/teapot", view_func=lambda: abort(418, "short <and> stout"), endpoint="teapot")
    response = admin.open(path, method=method, headers={"X-Request-ID": "abcdefgh-1"})
    problem = response.get_json()
    assert (response.status_code, response.mimetype) == (status, "application/problem+json")
    assert set(problem) == {"type", "title", "status", "detail", "request_id"}
    assert (problem["type"], problem["status"], problem["request_id"]) == ("about:blank", status, "abcdefgh-1")
    assert problem["title"]
    assert problem["detail"]
    if status == 405:
        assert "GET" in response.headers["Allow"]


def test_a_traceback_goes_to_the_log_alone(
    app: Flask, admin: FlaskClient, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    app.add_url_rule("/divide", view_func=divide)
    body = admin.get("/divide").get_data(as_text=True)
    assert "ZeroDivisionError" not in body
    assert "Traceback" not in body
    tracebacks = [line["traceback"] for line in lines() if "traceback" in line]
    assert len(tracebacks) == 1
    assert "ZeroDivisionError" in tracebacks[0]


@pytest.mark.parametrize(("size", "status"), [(64 * 1024, 400), (64 * 1024 + 1, 413)])
def test_a_body_over_the_cap_is_refused(admin: FlaskClient, size: int, status: int) -> None:
    response = admin.post("/commands/disk-usage", data=b" " * size, content_type="application/json")
    assert (response.status_code, response.get_json()["status"]) == (status, status)


def test_a_route_may_take_more(app: Flask, admin: FlaskClient) -> None:
    def upload() -> str:
        request.max_content_length = 100_000
        return str(len(request.get_data()))

    app.add_url_rule("/upload", view_func=upload, methods=["POST"])
    assert admin.post("/upload", data=b" " * 70_000).text == "70000"
    assert admin.post("/upload", data=b" " * 100_001).status_code == 413


def test_a_redirect_is_no_error(app: Flask, admin: FlaskClient) -> None:
    def away() -> Response:
        return redirect("/healthz")

    app.add_url_rule("/away", view_func=away)
    assert admin.get("/away").headers["Location"] == "/healthz"
