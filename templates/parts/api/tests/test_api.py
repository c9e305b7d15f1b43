from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as tries
from hypothesis import strategies as st
from werkzeug.exceptions import NotFound
from werkzeug.test import TestResponse

from service.app import api, auth, create_app, notes, store, versions

NOTES = "/api/v1/notes"

# A worker: it sends a note with a key, and prints the status and the number. {} is what breaks in it.
WORKER = """
import os, sys
from service.app import create_app, versions
{}
client = create_app().test_client()
headers = {{"Authorization": "Bearer " + sys.argv[1], "Idempotency-Key": "k"}}
answer = client.post("/api/v1/notes", json={{"text": "a"}}, headers=headers)
print(answer.status_code, answer.json["number"], file=sys.stderr)
"""


def worker(token: str, breaks: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER.format(breaks), token]
    root = Path(__file__).parents[2]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def token_of(client: FlaskClient) -> str:
    return str(client.environ_base["HTTP_AUTHORIZATION"]).partition(" ")[2]


def write(client: FlaskClient, text: str = "a", **headers: str) -> TestResponse:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(NOTES, json={"text": text}, headers=names)


def all_of(client: FlaskClient, **query: int) -> list[Any]:
    """Follow the pages to the last."""
    answer, items = client.get(NOTES, query_string=query), []
    while True:
        items += answer.json["items"]  # type: ignore[index]
        following = answer.json["next"]  # type: ignore[index]
        assert answer.headers.get("Link") == (f'<{following}>; rel="next"' if following else None)
        if not following:
            return items
        answer = client.get(following)


def test_a_note_is_written_read_replaced_and_deleted(admin: FlaskClient) -> None:
    written = write(admin)
    assert (written.status_code, written.json) == (201, {"text": "a", "done": False, "number": 1})
    place = written.headers["Location"]
    assert admin.get(place).json == written.json
    replaced = admin.put(place, json={"text": "b", "done": True}, headers={"If-Match": written.headers["ETag"]})
    assert (replaced.status_code, replaced.json) == (200, {"text": "b", "done": True, "number": 1})
    assert admin.get(place).headers["ETag"] == replaced.headers["ETag"] != written.headers["ETag"]
    assert admin.delete(place, headers={"If-Match": replaced.headers["ETag"]}).status_code == 204
    assert admin.get(place).status_code == 404


def test_what_has_changed_meanwhile_is_not_overwritten(admin: FlaskClient) -> None:
    tag = {"If-Match": write(admin).headers["ETag"]}
    assert admin.put(f"{NOTES}/1", json={"text": "b"}, headers=tag).status_code == 200
    assert admin.put(f"{NOTES}/1", json={"text": "c"}, headers=tag).status_code == 412
    assert admin.delete(f"{NOTES}/1", headers=tag).status_code == 412
    assert admin.delete(f"{NOTES}/1").status_code == 428
    assert admin.get(f"{NOTES}/1").json["text"] == "b"  # type: ignore[index]


@pytest.mark.parametrize("path", [f"{NOTES}/1", NOTES])
def test_what_the_client_has_is_not_sent_again(admin: FlaskClient, path: str) -> None:
    write(admin)
    first = admin.get(path)
    assert first.headers["Cache-Control"] == "private, no-cache"
    again = admin.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    write(admin)
    assert admin.get(NOTES, headers={"If-None-Match": first.headers["ETag"]}).status_code == 200


@tries(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 9), st.integers(0, 12), st.sets(st.integers(0, 11)))
def test_the_pages_have_each_note_once_in_order(admin: FlaskClient, limit: int, count: int, gone: set[int]) -> None:
    for note in all_of(admin):
        assert admin.delete(f"{NOTES}/{note['number']}", headers={"If-Match": "*"}).status_code == 204
    written = [write(admin).json for _ in range(count)]
    for index in gone & set(range(count)):
        place = f"{NOTES}/{written[index]['number']}"  # type: ignore[index]
        assert admin.delete(place, headers={"If-Match": "*"}).status_code == 204
    assert all_of(admin, limit=limit) == [note for index, note in enumerate(written) if index not in gone]


def test_a_note_that_is_deleted_between_two_pages_moves_no_other(admin: FlaskClient) -> None:
    for text in "abcd":
        write(admin, text)
    first = admin.get(f"{NOTES}?limit=2").json
    for number in (1, 2):
        admin.delete(f"{NOTES}/{number}", headers={"If-Match": "*"})
    rest = admin.get(first["next"]).json  # type: ignore[index]
    assert [note["text"] for note in rest["items"]] == ["c", "d"]  # type: ignore[index]


def test_a_request_that_comes_again_with_its_key_is_done_once(client_with: Callable[[str], FlaskClient]) -> None:
    client = client_with("operator")
    first, again = (write(client, Idempotency_Key="k") for _ in range(2))
    assert (again.status_code, again.data) == (first.status_code, first.data) == (201, first.data)
    assert {"ETag", "Location"} <= {*first.headers.keys()} & {*again.headers.keys()}
    assert first.headers["X-Request-ID"] != again.headers["X-Request-ID"]
    assert write(client, "b", Idempotency_Key="k").status_code == 422
    assert write(client_with("admin"), Idempotency_Key="k").json["number"] == 2  # type: ignore[index]
    assert write(client, Idempotency_Key="other").json["number"] == 3  # type: ignore[index]
    assert len(all_of(client)) == 3


def test_a_refused_request_does_not_use_up_its_key(admin: FlaskClient) -> None:
    assert write(admin, "", Idempotency_Key="k").status_code == 422
    assert write(admin, "a", Idempotency_Key="k").status_code == 201


def test_a_key_is_forgotten_after_a_day(admin: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [write(admin, Idempotency_Key="k").json["number"]]  # type: ignore[index]
    monkeypatch.setattr(store, "KEPT", -1)
    numbers.append(write(admin, Idempotency_Key="k").json["number"])  # type: ignore[index]
    assert numbers == [1, 2]


@pytest.mark.parametrize("key", ["", " ", "a b", "k" * 129, "ö"])
def test_a_wrong_key_is_refused(admin: FlaskClient, key: str) -> None:
    assert write(admin, Idempotency_Key=key).status_code == 400
    assert all_of(admin) == []


def test_workers_that_get_one_key_at_once_write_one_note(admin: FlaskClient) -> None:
    workers = [worker(token_of(admin)) for _ in range(4)]
    assert [one.communicate()[1] for one in workers] == ["201 1\n"] * 4
    assert len(all_of(admin)) == 1


@pytest.mark.parametrize("place", ["versions._etag", "versions.store.json.dumps"])
def test_a_worker_that_dies_has_written_all_or_nothing(admin: FlaskClient, place: str) -> None:
    breaks = f"import pathlib; {place} = lambda *_: os._exit(9)"
    if place.endswith("dumps"):  # the second call: the first is for the key
        breaks = (
            "real, calls = versions.store.json.dumps, []\n"
            "def dumps(*words, **options):\n"
            "    calls.extend(words)\n"
            "    if words and isinstance(words[0], list): os._exit(9)\n"
            "    return real(*words, **options)\n"
            "versions.store.json.dumps = dumps"
        )
    with worker(token_of(admin), breaks) as died:
        died.communicate()
    assert died.returncode == 9
    assert all_of(admin) == []
    assert write(admin, Idempotency_Key="k").status_code == 201
    assert len(all_of(admin)) == 1


def test_a_store_that_cannot_be_used_is_503(admin: FlaskClient, state: Path) -> None:
    (state / "api.sqlite").mkdir()
    answer = admin.get(NOTES)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "kind", "status", "pointers"),
    [
        ("{", "application/json", 400, None),
        ("", "application/json", 400, None),
        ("[" * 20_000, "application/json", 400, None),
        ('{"text": "\\ud800"}', "application/json", 400, None),
        ('{"text": "a"}', "text/plain", 415, None),
        ('{"text": "a"}' + " " * 70_000, "application/json", 413, None),
        ("[]", "application/json", 422, [""]),
        ('{"text": 1, "done": "yes", "a/b": 1}', "application/json", 422, ["/text", "/done", "/a~1b"]),
    ],
)
def test_a_body_that_is_not_as_documented_is_refused(
    admin: FlaskClient, body: str, kind: str, status: int, pointers: list[str] | None
) -> None:
    answer = admin.post(NOTES, data=body, content_type=kind)
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert [fault["pointer"] for fault in answer.json.get("errors", [])] == (pointers or [])  # type: ignore[union-attr]
    assert all_of(admin) == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "after=-1", "limit=1&limit=2", "page=1", "after="]
)
def test_a_query_that_is_not_as_documented_is_refused(admin: FlaskClient, query: str) -> None:
    assert admin.get(f"{NOTES}?{query}").status_code == 422


@pytest.mark.parametrize("number", ["0", "x", "9007199254740992", "9" * 40, "-1"])
def test_a_number_that_no_note_can_have_is_404(admin: FlaskClient, number: str) -> None:
    assert admin.get(f"{NOTES}/{number}").status_code == 404


@tries(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1, max_size=60), st.booleans())
def test_what_is_written_is_what_is_read(admin: FlaskClient, text: str, done: bool) -> None:
    note = admin.post(NOTES, json={"text": text, "done": done})
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert (note.status_code, note.json["text"], note.json["done"]) == (201, text, done)  # type: ignore[index]
        assert admin.get(note.headers["Location"]).json == note.json


def test_deny_by_default(client: FlaskClient, client_with: Callable[[str], FlaskClient]) -> None:
    assert client.get(NOTES).status_code == 401
    reader = client_with("reader")
    assert (reader.get(NOTES).status_code, write(reader).status_code) == (200, 403)
    with pytest.raises(TypeError):
        versions.Version("v9").operation("GET", "/x")  # type: ignore[call-arg]


class NewName(versions.Model):
    """What v2 takes for a name."""

    name: str


class Name(NewName):
    """What v2 answers."""

    at: datetime


SINCE = datetime(2027, 1, 1, tzinfo=timezone.utc)

v1 = versions.Version("v1", deprecated=SINCE, sunset=datetime(2027, 7, 1, tzinfo=timezone.utc), successor="v2")
v2 = versions.Version("v2")


@v1.operation("GET", "/name", role=auth.OPEN)
def old_name() -> NewName:
    """The old way."""
    return NewName(name="a")


@v2.operation("POST", "/names/<name>/<int:number>", role="reader")
def new_name(name: str, number: int, body: NewName) -> Name:
    """The new way."""
    return Name(name=f"{name} {number} {body.name}", at=SINCE)


@v2.operation("POST", "/signals", role=auth.OPEN)
def signal() -> None:
    """It answers nothing."""
    versions.header("X-Heard", "yes")


class Kind(Enum):
    """A type with a name of its own in the document."""

    GOOD = "good"


class Wanted(versions.Model):
    """What v2 takes in a query."""

    kind: Kind


@v2.operation("POST", "/failures", role=auth.OPEN)
def fail(query: Wanted) -> Name:
    """It fails after it has written."""
    store.opened().execute("INSERT INTO notes (text, done) VALUES (?, 0)", (query.kind.value,))
    raise NotFound


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Flask:
    """An application with two versions, the first of which is to go."""
    monkeypatch.setattr(api, "VERSIONS", (v1, v2))
    return create_app()


def let_in(client: FlaskClient) -> None:
    words = ["token", "create", "me", "--role", "reader"]
    token = client.application.test_cli_runner().invoke(args=words).stdout.strip()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"


def test_two_versions_side_by_side_and_the_old_one_says_that_it_will_go(two: Flask) -> None:
    client = two.test_client()
    old = client.get("/api/v1/name")
    assert (old.status_code, old.json) == (200, {"name": "a"})
    assert old.headers["Deprecation"] == "@1798761600"
    assert old.headers["Sunset"] == "Thu, 01 Jul 2027 00:00:00 GMT"
    assert old.headers["Link"] == '</api/v2/>; rel="successor-version"'
    refused = client.post("/api/v2/names/b/2", json={"name": "c"})
    assert (refused.status_code, "Deprecation" in refused.headers, "Sunset" in refused.headers) == (401, False, False)
    let_in(client)
    new = client.post("/api/v2/names/b/2", json={"name": "c"})
    assert new.json == {"name": "b 2 c", "at": "2027-01-01T00:00:00Z"}
    documents = {name: client.get(f"/api/{name}/openapi.json").json for name in ("v1", "v2")}
    assert list(documents["v1"]["paths"]) == ["/api/v1/name"]  # type: ignore[index]
    assert list(documents["v2"]["paths"]) == [  # type: ignore[index]
        "/api/v2/failures", "/api/v2/names/{name}/{number}", "/api/v2/signals"
    ]  # fmt: skip
    assert documents["v1"]["paths"]["/api/v1/name"]["get"]["deprecated"] is True  # type: ignore[index]
    assert "Deprecated" in client.get("/api/v1/").text
    assert "Deprecated" not in client.get("/api/v2/").text


def test_an_operation_without_a_result_and_without_a_role_takes_keys_too(two: Flask) -> None:
    client = two.test_client()
    for _ in range(2):
        answer = client.post("/api/v2/signals", headers={"Idempotency-Key": "k"})
        assert (answer.status_code, answer.data, answer.headers["X-Heard"]) == (204, b"", "yes")
        assert "Content-Type" not in answer.headers
    let_in(client)
    document: Any = client.get("/api/v2/openapi.json").json
    documented = document["paths"]["/api/v2/signals"]["post"]
    assert (documented["security"], sorted(documented["responses"])) == ([], ["204", "400", "422", "503"])


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "k"}])
def test_an_operation_that_fails_has_written_nothing(two: Flask, state: Path, key: dict[str, str]) -> None:
    client = two.test_client()
    assert client.post("/api/v2/failures?kind=bad", headers=key).status_code == 422
    assert client.post("/api/v2/failures?kind=good", headers=key).status_code == 404
    with closing(sqlite3.connect(state / "api.sqlite")) as kept:
        assert [*kept.execute("SELECT * FROM notes UNION ALL SELECT key, at, request FROM answers")] == []


def references(node: Any) -> set[str]:
    """Return all $ref below a node."""
    if isinstance(node, list):
        return set().union(*map(references, node))
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*map(references, node.values()))
    return set()


def test_the_document_has_every_operation_and_all_that_it_refers_to(admin: FlaskClient) -> None:
    document = admin.get("/api/v1/openapi.json").json
    assert document is not None
    assert document["openapi"].startswith("3.1.")
    operations = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert operations == {
        (NOTES, "get"), (NOTES, "post"), (f"{NOTES}/{{number}}", "get"), (f"{NOTES}/{{number}}", "put"),
        (f"{NOTES}/{{number}}", "delete"),
    }  # fmt: skip
    named = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) == named - {"#/components/schemas/Page"}
    assert len(notes.v1.operations) == 5


def test_a_type_that_a_query_refers_to_is_in_the_document(two: Flask) -> None:
    client = two.test_client()
    let_in(client)
    document: Any = client.get("/api/v2/openapi.json").json
    assert document["components"]["schemas"]["Kind"]["enum"] == ["good"]
    (parameter,) = (
        one for one in document["paths"]["/api/v2/failures"]["post"]["parameters"] if one["in"] == "query"
    )  # fmt: skip
    assert parameter["schema"] == {"$ref": "#/components/schemas/Kind"}


def test_the_page_needs_nothing_from_outside(admin: FlaskClient) -> None:
    page = admin.get("/api/v1/")
    assert page.status_code == 200
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'nonce-")
    assert not any(word in page.text for word in ("<script", "<link", "<img", "src=", "http:", "https:", "@import"))
    document = admin.get("/api/v1/openapi.json").json
    assert all(f"{path}<" in page.text for path in document["paths"])  # type: ignore[index]
    assert json.dumps(document).count("operationId") == page.text.count("<h2 id=")
