from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.app import auth
from service.app.tokens import ROLES

ClientWith = Callable[[str], FlaskClient]
OPEN = {"/", "/healthz", "/readyz"}


def test_every_route_but_health_and_the_front_page_needs_a_token(app: Flask, client: FlaskClient) -> None:
    app.add_url_rule("/unmarked", view_func=lambda: "secret", endpoint="unmarked")
    for rule in app.url_map.iter_rules():
        for method in rule.methods or ():
            response = client.open(re.sub("<.*?>", "1", rule.rule), method=method)
            assert (response.status_code == 401) is (rule.rule not in OPEN), (method, rule)


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (None, None),
        ("", None),
        ("Basic YTpi", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("Bearer myapp_unknown", "invalid_token"),
        ("Bearer \xff\xfe", "invalid_token"),
        ("Bearer a=b", None),
        ("bearer \x00", "invalid_token"),
    ],
)
def test_without_a_token_that_is_known_the_answer_says_how_to_send_one(
    client: FlaskClient, sent: str | None, error: str | None
) -> None:
    response = client.get("/commands", environ_overrides={} if sent is None else {"HTTP_AUTHORIZATION": sent})
    assert (response.status_code, response.mimetype) == (401, "application/problem+json")
    said = response.www_authenticate
    assert (said.type, said.get("realm"), said.get("error")) == ("bearer", "myapp", error)


@pytest.mark.parametrize("needed", ROLES)
@pytest.mark.parametrize("given", ROLES)
def test_a_role_may_what_those_before_it_may(app: Flask, client_with: ClientWith, given: str, needed: str) -> None:
    app.add_url_rule("/door", view_func=auth.role(needed)(lambda: "in"), endpoint="door")
    allowed = ROLES.index(given) >= ROLES.index(needed)
    response = client_with(given).get("/door")
    assert response.status_code == (200 if allowed else 403)
    if not allowed:
        assert (response.mimetype, response.get_json()["title"]) == ("application/problem+json", "Forbidden")
        assert response.get_json()["detail"] == f"this needs the role {needed}; the token test-{given} has {given}"


def test_a_route_that_names_no_role_is_for_admins(app: Flask, client_with: ClientWith) -> None:
    app.add_url_rule("/unmarked", view_func=lambda: "in", endpoint="unmarked")
    assert [client_with(role).get("/unmarked").status_code for role in ROLES] == [403, 403, 200]


def test_a_role_that_there_is_not_is_refused_where_it_stands() -> None:
    with pytest.raises(ValueError, match="'root' is no role"):
        auth.role("root")


def test_a_path_that_there_is_not_says_so(client: FlaskClient) -> None:
    assert (client.get("/nothing").status_code, client.post("/healthz").status_code) == (404, 405)


def test_a_token_in_the_query_counts_for_nothing(client_with: ClientWith, client: FlaskClient) -> None:
    token = client_with("admin").environ_base["HTTP_AUTHORIZATION"].split()[1]
    assert client.get(f"/commands?access_token={token}").status_code == 401


def test_the_log_names_the_token_and_never_has_it(
    client_with: ClientWith, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    operator = client_with("operator")
    operator.get("/commands")
    (line,) = lines()
    assert line["token"] == "test-operator"  # noqa: S105
    assert operator.environ_base["HTTP_AUTHORIZATION"].split()[1] not in str(lines())
