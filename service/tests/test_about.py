from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from service.app import create_app

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("image/png", "application/json"),
        ("text/html;q=0.5, application/json", "application/json"),
        ("text/html", "text/html"),
        (BROWSER, "text/html"),
    ],
)
def test_the_client_chooses_the_form(client: FlaskClient, accept: str | None, kind: str) -> None:
    response = client.get("/", headers={"Accept": accept} if accept else {})
    assert (response.status_code, response.mimetype, response.headers["Vary"]) == (200, kind, "Accept")


def test_it_says_what_it_is_and_where_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREETING", "good day")
    about = create_app().test_client().get("/").get_json()
    assert (about["service"], about["release"], about["greeting"]) == ("myapp", "0123456789ab", "good day")
    endpoints = [(endpoint["method"], endpoint["path"], endpoint["role"]) for endpoint in about["endpoints"]]
    own = [
        ("GET", "/", "open"),
        ("GET", "/commands", "reader"),
        ("POST", "/commands/<name>", "reader"),
        ("GET", "/healthz", "open"),
        ("GET", "/readyz", "open"),
    ]
    assert [endpoint for endpoint in endpoints if endpoint in own] == own
    assert all(endpoint["what"] for endpoint in about["endpoints"])


def test_the_page_escapes_and_needs_no_other_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREETING", "<script>alert(1)</script>")
    response = create_app().test_client().get("/", headers={"Accept": BROWSER})
    page = response.get_data(as_text=True)
    assert "&lt;script&gt;" in page
    policy = response.headers["Content-Security-Policy"]
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    assert "default-src 'none'" in policy
    assert f'<style nonce="{nonce}">' in page
    assert not any(mark in page for mark in ("<script", "src=", "href=", "url("))
