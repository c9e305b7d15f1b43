"""Login, against a paramiko server on the other end of a socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from inspect import unwrap
from typing import Any

import pytest
from paramiko import AUTH_FAILED, AUTH_SUCCESSFUL, AuthenticationException, Channel, ServerInterface, Transport
from paramiko.auth_handler import AuthHandler

from tasks.engine.ssh import auth
from tasks.engine.ssh.byte_stream import Wire
from tasks.engine.ssh.host_keys import Trust
from tests.support.false_sshd import key


class Reluctant(AuthHandler):  # type: ignore[misc]  # paramiko is untyped
    """A server that accepts the service request only once the key has been shown."""

    asked: list[Any]

    def _parse_service_request(self, m: Any) -> None:
        self.asked = [m]

    def _parse_userauth_request(self, m: Any) -> None:
        for request in self.asked:
            super()._parse_service_request(request)
        super()._parse_userauth_request(m)


class Server(ServerInterface):  # type: ignore[misc]  # paramiko is untyped
    def __init__(self, wanted: Any) -> None:
        self.wanted, self.shown = wanted, 0

    def check_auth_publickey(self, username: str, key: Any) -> int:
        self.shown += 1
        return int(AUTH_SUCCESSFUL if (username, key) == ("deploy", self.wanted) else AUTH_FAILED)

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002 - paramiko's signature
        return "publickey"


@pytest.fixture
def ends() -> Iterator[tuple[Any, Server]]:
    """A client whose key exchange is done, and its server."""
    ours, theirs = socket.socketpair()
    host, wanted = key(), key()
    server, rules = Transport(theirs), Server(wanted)
    server.add_server_key(host)
    server.auth_handler = Reluctant(server)
    server.start_server(event=threading.Event(), server=rules)
    client = auth.transport_class(Trust((host,), (), "here"))(Wire(ours))
    with ours, theirs:
        client.start_client(timeout=60)
        client.auth_timeout = 60
        yield client, rules
        client.close()
        server.close()


def test_the_key_is_shown_without_a_wait_for_the_service(ends: tuple[Any, Server]) -> None:
    client, rules = ends
    client.auth_publickey("deploy", rules.wanted)
    assert client.is_authenticated()
    assert rules.shown == 1


def test_a_key_that_is_refused_is_followed_by_the_next(ends: tuple[Any, Server]) -> None:
    client, rules = ends
    with pytest.raises(AuthenticationException):
        client.auth_publickey("deploy", key())
    client.auth_publickey("deploy", rules.wanted)
    assert client.is_authenticated()
    assert rules.shown == 2


def test_paramiko_still_has_what_a_login_and_a_channel_hook_into() -> None:
    """These names are private: a new paramiko may move them, and each would cost a round trip, or a login."""
    assert "_request_auth" in AuthHandler.auth_publickey.__code__.co_names
    assert {"_request_auth", "_parse_service_accept"} <= vars(AuthHandler).keys()
    assert "_wait_for_event" in unwrap(Channel.exec_command).__code__.co_names
    assert "_wait_for_event" in vars(Channel)
    assert {"_preferred_ciphers", "_compression_info", "preferred_keys"} <= vars(Transport).keys()
