"""The questions to OSV, answered by a server of this test."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tasks.engine.audit import advisory, online
from tasks.engine.errors import Unreachable
from tests.support.advisories import record

ADVISORIES = {"A-1": record("A-1"), "A-2": record("A-2", "jinja2"), "A/3": record("A-3")}


class Osv(BaseHTTPRequestHandler):
    """A server like OSV's. answers: in place of its own, by path."""

    answers: dict[str, bytes] = {}  # noqa: RUF012 - each test has its own
    asked: list[Any] = []  # noqa: RUF012

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        self.asked.append(asked)
        self._answer({"results": [self._result(one) for one in asked]})

    def _result(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["package"]["name"] != "flask":
            return {}
        if "page_token" in asked:
            return {"vulns": [{"id": "A-2"}]}
        return {"vulns": [{"id": "A-1"}], "next_page_token": "more"}

    def do_GET(self) -> None:
        name = self.path.removeprefix("/vulns/").replace("%2F", "/")
        self._answer(ADVISORIES[name])

    def _answer(self, value: object) -> None:
        data = self.answers.get(self.path, json.dumps(value).encode())
        self.send_response(200 if data else 503)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def url() -> Iterator[str]:
    Osv.answers, Osv.asked = {}, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_all_packages_are_one_question_and_further_pages_are_asked_for(url: str) -> None:
    found = online.ask([("jinja2", "3.0"), ("flask", "3.0"), ("flask", "3.0")], url)
    assert [one.names[0] for one in found.advisories] == ["A-1", "A-2"]
    flask = {"package": {"ecosystem": "PyPI", "name": "flask"}, "version": "3.0"}
    jinja = {"package": {"ecosystem": "PyPI", "name": "jinja2"}, "version": "3.0"}
    assert Osv.asked == [[flask, jinja], [{**flask, "page_token": "more"}]]


def test_many_packages_are_several_questions(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "_ONCE", 2)
    online.ask([(f"p{number}", "1") for number in range(5)], url)
    assert [len(asked) for asked in Osv.asked] == [2, 2, 1]


@pytest.mark.parametrize(
    ("path", "answer", "said"),
    [
        ("/querybatch", b"", "503"),
        ("/querybatch", b"<html>a portal</html>", "Expecting value"),
        ("/querybatch", b"[" * 10**6, "nested"),
        ("/querybatch", b"[]", "something else"),
        ("/querybatch", b'{"results": []}', "something else"),
        ("/querybatch", b'{"results": [{"vulns": [7]}]}', "something else"),
        ("/querybatch", b'{"results": [{"vulns": 7}]}', "something else"),
        ("/querybatch", b'{"results": [{"next_page_token": "x"}]}', "no end"),
        ("/querybatch", b"x" * (2 << 20), "too long"),
        ("/vulns/A-1", b"", "503"),
        ("/vulns/A-1", b'{"id": 7}', "no id"),
    ],
)
def test_an_answer_that_is_none_means_that_no_database_was_reached(
    url: str, path: str, answer: bytes, said: str
) -> None:
    Osv.answers[path] = answer
    with pytest.raises(Unreachable, match=said) as failed:
        online.ask([("flask", "3.0")], url)
    assert (failed.value.exit_status, failed.value.where) == (3, url)
    assert "--db" in str(failed.value.next)


def test_no_more_advisories_are_fetched_than_a_limit(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "_MOST", 1)
    with pytest.raises(Unreachable, match="it names 2 advisories"):
        online.ask([("flask", "3.0")], url)


def test_a_server_that_is_not_there_is_told_with_the_way_on(url: str) -> None:
    with pytest.raises(Unreachable, match="no database of vulnerabilities was reached"):
        online.ask([("flask", "3.0")], url.rpartition(":")[0] + ":9")


def test_an_answer_that_has_no_end_is_given_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "_SECONDS", -1)
    with pytest.raises(Unreachable, match="had not ended"):
        online.ask([("flask", "3.0")], url)


def test_advisories_that_take_much_memory_are_no_answer(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advisory, "_MOST", 20)
    with pytest.raises(Unreachable, match="more versions of these packages"):
        online.ask([("flask", "3.0"), ("jinja2", "3.0")], url)
