"""Maintenance on real hosts: clients get the message, the host's own check continues, and only `off` ends it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clone import Clone
from tests.support.fleet import Fleet, fleet
from tests.support.front_door import Answer, ask, release_of
from tests.support.hosts import Hosts
from tests.support.nginx_reload import reload_nginx

__all__ = ["fleet"]

HOSTILE = "back at 14:00 <script>alert('1')</script> & \"$host\" \\ {{name}} ${0} `id` %s é \U0001f600"


@pytest.fixture
def site(fleet: Fleet) -> Iterator[tuple[Clone, Hosts]]:
    yield fleet.clone, fleet.hosts
    fleet.clone.done("maintenance", "off", "-H", "shire01")


def closed(answer: Answer) -> bool:
    return answer.status == 503 and answer.headers.get("retry-after") == "120"


def test_a_browser_and_a_program_are_both_told_and_no_word_of_the_message_means_anything(
    site: tuple[Clone, Hosts],
) -> None:
    clone, hosts = site
    address = hosts[0].address
    clone.done("maintenance", "on", "-H", "shire01", "--message", HOSTILE)
    page = ask(address, "/")
    assert closed(page)
    assert page.headers["content-type"] == "text/html"
    assert b"<script>" not in page.body
    for piece in ("&lt;script&gt;alert(&#x27;1&#x27;)", "&quot;$host&quot;", "{{name}} ${0} `id` %s &#233; &#128512;"):
        assert piece in page.body.decode("ascii")
    told = ask(address, "/api/commands?x=1", headers={"Accept": "application/problem+json, application/json"})
    assert closed(told)
    assert told.headers["content-type"] == "application/problem+json"
    assert (told.json()["status"], told.json()["detail"]) == (503, HOSTILE)
    assert (
        ask(address, "/", headers={"Accept": "text/html,application/json;q=0.9"}).headers["content-type"] == "text/html"
    )


def test_nothing_from_outside_is_answered_otherwise(site: tuple[Clone, Hosts]) -> None:
    clone, hosts = site
    clone.done("maintenance", "on", "-H", "shire01")
    for path in ("/", "/healthz", "/readyz", "/.closed-myapp", "/page.html", "/state.json", "/static/../state.json"):
        assert closed(ask(hosts[0].address, path)), path
        posted = ask(hosts[0].address, path, body=b"x=1")
        assert closed(posted), path
        assert b"Maintenance" in posted.body
    local = "curl -sk -o /dev/null -w '%{http_code}' --resolve myapp.example:443:127.0.0.1 https://myapp.example/readyz"
    assert hosts[0].sh(local).stdout == b"503"


def test_a_deploy_works_behind_the_closed_door_and_says_that_it_is_closed(site: tuple[Clone, Hosts]) -> None:
    clone, hosts = site
    clone.done("maintenance", "on", "-H", "shire01", "--message", "Soon.")
    stop = threading.Event()
    answers: list[int] = []

    def watch() -> None:
        while not stop.wait(0.02):
            answers.append(ask(hosts[0].address, "/").status)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        clone.write("service/note.txt", "a new release\n")
        ended = clone.done("deploy", "-H", "shire01")
        assert clone.done("health", "-H", "shire01").out.strip().endswith("ok")
        clone.done("maintenance", "on", "-H", "shire01", "--message", "Later.")
    finally:
        stop.set()
        watching.join()
    assert set(answers) == {503}
    assert "maintenance is on" in ended.out
    clone.done("maintenance", "off", "-H", "shire01")
    assert release_of(hosts[0].address) == clone.release()
    assert "maintenance is on" not in clone.done("deploy", "-H", "shire01").out


def test_a_reboot_leaves_the_door_closed(site: tuple[Clone, Hosts]) -> None:
    clone, hosts = site
    clone.done("maintenance", "on", "-H", "shire01", "--message", "Moving house.")
    hosts[0].reboot()
    answer = ask(hosts[0].address, "/")
    assert closed(answer)
    assert b"Moving house." in answer.body
    clone.done("maintenance", "off", "-H", "shire01")
    assert ask(hosts[0].address, "/healthz").status == 200


def test_status_says_since_when_why_and_by_whom(site: tuple[Clone, Hosts]) -> None:
    clone, _ = site
    assert clone.done("maintenance", "status", "-H", "shire01").out.strip() == "shire01  off"
    clone.done("maintenance", "on", "-H", "shire01", "--message", "Soon.")
    found = clone.done("maintenance", "status", "-H", "shire01", "--json").json()["hosts"][0]
    assert (found["maintenance"], found["message"]) == (True, "Soon.")
    assert found["since"].endswith("Z")
    assert clone.done("maintenance", "status", "-H", "shire01").out.startswith("shire01  ON since ")
    states = [(one["action"], one["state"]) for one in history(clone)[-2:]]
    assert states == [("maintenance-on", "started"), ("maintenance-on", "done")]


def test_a_directory_made_by_hand_closes_too_and_a_link_leads_nginx_nowhere(site: tuple[Clone, Hosts]) -> None:
    clone, hosts = site
    hosts[0].sh("mkdir /opt/apps/myapp/maintenance; ln -s /etc/passwd /opt/apps/myapp/maintenance/page.html")
    answer = ask(hosts[0].address, "/")
    assert closed(answer)
    assert b"root:" not in answer.body
    assert "hand" in clone.done("maintenance", "status", "-H", "shire01").out
    ended = clone.done("maintenance", "on", "-H", "shire01", "--message", "By the book.")
    assert "is root's, and stays until root removes it" in ended.out
    hosts[0].sh("rm -rf /opt/apps/myapp/.maintenance-*")
    assert b"By the book." in ask(hosts[0].address, "/").body


def test_a_gateway_that_does_not_know_maintenance_is_left_open_and_said(site: tuple[Clone, Hosts]) -> None:
    clone, hosts = site
    nginx = "/etc/nginx/conf.d/myapp.conf"
    hosts[0].sh(f"cp -p {nginx} /root/kept; sed -i '/return 503/d' {nginx}")
    reload_nginx(hosts[0])
    try:
        ended = clone.fab("maintenance", "on", "-H", "shire01")
        assert ended.status == 1
        assert "the front door answers 200 and not 503" in ended.both
        assert ask(hosts[0].address, "/healthz").status == 200
        assert hosts[0].sh("ls -d /opt/apps/myapp/*maint* /opt/apps/myapp/.maint*").stdout == b""
    finally:
        hosts[0].sh(f"mv /root/kept {nginx}")
        reload_nginx(hosts[0])


def history(clone: Clone) -> list[dict[str, str]]:
    actions: list[dict[str, str]] = clone.done("history", "-H", "shire01", "--json").json()["hosts"][0]["actions"]
    return actions


@pytest.fixture
def unreachable(clone: Clone, tmp_path: Path) -> Clone:
    """A clone with an unreachable host: refusals come before any contact."""
    clone.inventory = tmp_path / "hosts.yaml"
    clone.inventory.write_text(json.dumps({"hosts": {"shire01": {"address": "192.0.2.1"}}}))
    return clone


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sideways"], "maintenance takes on, off or status, not 'sideways'"),
        (["on", "--message", "\x1b[2J"], "a message is printable text"),
        (["on", "--message", "\u202egnp"], "a message is printable text"),
        (["on", "--message", "x" * 2001], "2000 characters at most"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_contact(unreachable: Clone, words: list[str], told: str) -> None:
    ended = unreachable.fab("maintenance", *words)
    assert ended.status == 2
    assert told in ended.err


def test_a_service_without_a_gateway_is_refused_in_words(unreachable: Clone) -> None:
    unreachable.write("service/service.yaml", "name: myapp\napp: app:create_app()\nlisten: 127.0.0.1:8080\n")
    ended = unreachable.fab("maintenance", "on", "-H", "shire01")
    assert ended.status == 2
    assert "has no nginx that could answer in its place" in ended.err
