"""What the controller sees of a site as a client would: where its names lead, and whether its port answers."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tasks.engine.config.gateway import Nginx, Tls
from tasks.engine.fleet import client_view
from tasks.engine.ssh.ssh_config import Endpoint

HERE = Endpoint("shire01", "192.0.2.1", 22, "deploy", (), ())
DNS = {"shop.example.org": ("192.0.2.1", "2001:db8::1"), "old.example.org": ("198.51.100.7",)}


@pytest.fixture(autouse=True)
def _dns(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(name: str, *_: object, **__: object) -> list[object]:
        if name == "silent.example.org":
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        found = (name,) if name[0].isdigit() else DNS.get(name, ())
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def seen(*names: str, at: Endpoint = HERE, serves: bool = False, **keys: Any) -> list[str]:
    """Return the remarks; each has something that mends it."""
    found = list(client_view.remarks(Nginx(names)._replace(**keys), at, serves=serves))
    assert all(mend for _, mend in found)
    return [text for text, _ in found]


def test_a_name_that_leads_to_the_host_and_a_name_for_trials_are_fine() -> None:
    assert seen("shop.example.org", "myapp.example", "*.shop.example.org") == []


def test_a_name_that_leads_elsewhere_or_nowhere_is_told() -> None:
    assert seen("old.example.org", "none.example.org", "silent.example.org") == [
        "old.example.org leads to 198.51.100.7, and this host is 192.0.2.1",
        "none.example.org does not resolve on this machine",
        "no name server says where silent.example.org leads",
    ]


def test_a_name_may_lead_to_a_balancer_or_to_a_host_behind_a_jump_host() -> None:
    assert seen("old.example.org", trusted_proxies=("10.0.0.0/8",)) == []
    for behind in (HERE._replace(jumps=("bastion",)), HERE._replace(proxy_command="nc %h %p")):
        assert seen("old.example.org", "none.example.org", at=behind, serves=True) == [
            "none.example.org does not resolve on this machine"
        ]


@pytest.mark.parametrize(("mode", "port"), [("off", 80), ("self-signed", 443)])
def test_a_port_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch, mode: str, port: int) -> None:
    asked = []

    def refuse(address: tuple[str, int], **_: object) -> socket.socket:
        asked.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", refuse)
    assert seen("myapp.example", serves=True, tls=Tls(mode)) == [
        f"port {port} of 192.0.2.1 does not answer from this machine: Connection refused"
    ]
    assert asked == [("192.0.2.1", port)]


def test_what_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_view, "_SECONDS", 0.05)
    near, far = socket.socketpair()
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: near)
    with near, far:
        (told,) = seen("myapp.example", serves=True)
    assert "does not answer from this machine: no answer within" in told
