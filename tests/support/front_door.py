"""The front door of a host, asked from outside by name, as a client does."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAME = "myapp.example"


@dataclass
class Answer:
    """One answer."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """Parse its body."""
        return json.loads(self.body)


def ask(
    address: str,
    path: str = "/healthz",
    name: str = NAME,
    port: int = 443,
    timeout: float = 10,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    identity: tuple[Path, Path] | None = None,
    authority: Path | None = None,
) -> Answer:
    """GET over TLS (plain on any port but 443), to this address, for this name; OSError without an answer.

    A body makes it a POST. identity: the client's own certificate and its key. authority: the CA that it trusts.
    """
    sock: socket.socket = socket.create_connection((address, port), timeout=timeout)
    if port == 443:
        context = ssl.create_default_context(cafile=authority) if authority else trusting()
        if identity:
            context.load_cert_chain(*identity)
        sock = context.wrap_socket(sock, server_hostname=name)
    connection = http.client.HTTPConnection(name, port, timeout=timeout)
    connection.sock = sock
    try:
        method = "GET" if body is None else "POST"
        connection.request(method, path, body, {"Connection": "close", **(headers or {})})
        answer = connection.getresponse()
        return Answer(answer.status, answer.read(), {key.lower(): value for key, value in answer.getheaders()})
    except http.client.HTTPException as error:
        raise ConnectionError(str(error) or type(error).__name__) from error
    finally:
        connection.close()


def trusting() -> ssl.SSLContext:
    """Make a context that trusts any certificate: the tests of TLS look at the host's own, the others do not.

    To read the system's authorities takes ten times the processor time of a request.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def spoken(address: str, name: str = NAME) -> str | None:
    """Return the protocol that nginx chooses for a client that knows HTTP/2 and 1.1."""
    context = trusting()
    context.set_alpn_protocols(["h2", "http/1.1"])
    raw = socket.create_connection((address, 443), timeout=60)
    with context.wrap_socket(raw, server_hostname=name) as wire:
        return wire.selected_alpn_protocol()


def release_of(address: str, name: str = NAME) -> str:
    """Return the release that answers."""
    return str(ask(address, "/healthz", name).json()["release"])
