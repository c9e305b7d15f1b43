from __future__ import annotations

import pytest
from flask import Flask, request

from service.app import create_app, gateway

FORWARDED = {
    "X-Forwarded-For": "203.0.113.9, 192.0.2.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
}


def seen() -> dict[str, str | None]:
    return {"remote": request.remote_addr, "scheme": request.scheme, "host": request.host}


@pytest.mark.parametrize(
    ("setting", "peer", "remote", "scheme"),
    [
        (None, "", "192.0.2.7", "https"),
        (None, "198.51.100.1", "198.51.100.1", "http"),
        ("0", "", "", "http"),
        ("1", "198.51.100.1", "192.0.2.7", "https"),
        ("2", "198.51.100.1", "203.0.113.9", "http"),
    ],
)
def test_only_the_gateway_is_believed(
    monkeypatch: pytest.MonkeyPatch, setting: str | None, peer: str, remote: str, scheme: str
) -> None:
    if setting is not None:
        monkeypatch.setenv("TRUSTED_PROXIES", setting)
    app = Flask(__name__)
    gateway.install(app)
    app.add_url_rule("/", view_func=seen)
    answer = app.test_client().get("/", headers=FORWARDED, environ_overrides={"REMOTE_ADDR": peer}).get_json()
    assert answer == {"remote": remote, "scheme": scheme, "host": "localhost"}


@pytest.mark.parametrize("setting", ["yes", "-1", "1.5"])
def test_a_setting_that_is_no_number_stops_the_start(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", setting)
    with pytest.raises(ValueError, match="TRUSTED_PROXIES is the number"):
        create_app()
