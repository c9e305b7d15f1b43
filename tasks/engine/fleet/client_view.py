"""Ask from the controller, as a client would: do the names lead to the host, and does its nginx answer there?"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as Late
from typing import TypeVar

from tasks.engine.config.gateway import Nginx
from tasks.engine.parallel import run_in_thread
from tasks.engine.ssh.ssh_config import Endpoint

_Answer = TypeVar("_Answer")
_SECONDS = 5
"""Longest wait for a name server, or for the port."""
_RESERVED = frozenset({"example", "invalid", "localhost", "test"})
"""Top-level names that public name servers do not know (RFC 6761): a site under them is a trial."""


def remarks(nginx: Nginx, endpoint: Endpoint, *, serves: bool) -> Iterator[tuple[str, str]]:
    """Yield a problem and what mends it. serves: nginx runs, and a release behind it.

    The host's own address counts only if we connect to it directly: behind a jump host it means nothing here.
    """
    direct = not endpoint.jumps and not endpoint.proxy_command
    own = _addresses(endpoint.hostname) if direct else None
    for name in nginx.names:
        if not name.startswith("*."):
            yield from _leads(name, None if nginx.trusted_proxies else own)
    if serves and direct:
        yield from _answers(endpoint.hostname, nginx)


def _leads(name: str, own: frozenset[str] | None) -> Iterator[tuple[str, str]]:
    """Yield the problem if a name leads to none of these addresses; None: any will do, since a balancer may have it."""
    try:
        found = _addresses(name)
    except TimeoutError:
        yield f"no name server says where {name} leads", "see /etc/resolv.conf on this machine"
        return
    if not found and name.rpartition(".")[2] not in _RESERVED:
        yield (
            f"{name} does not resolve on this machine",
            "make a DNS record for it, or take it out of nginx.server_name",
        )
    elif found and own and not found & own:
        text = f"{name} leads to {', '.join(sorted(found))}, and this host is {', '.join(sorted(own))}"
        yield text, "if no balancer or address translation is between them, change the DNS record"


def _addresses(name: str) -> frozenset[str]:
    """Return the addresses of a name; none if it does not resolve. Raise TimeoutError if no name server answers."""

    def resolve() -> frozenset[str]:
        return frozenset(str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))

    try:
        return _within(resolve)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise TimeoutError(error.strerror) from error
        return frozenset()


def _answers(hostname: str, nginx: Nginx) -> Iterator[tuple[str, str]]:
    port = 80 if nginx.tls.mode == "off" else 443
    try:
        _within(lambda: _shake(hostname, port, nginx.server_name))
    except OSError as error:
        said = error.strerror or str(error)
        mend = (
            f"open it in the firewalls of host and network; on the host, to see who listens: ss -ltn 'sport = {port}'"
        )
        yield f"port {port} of {hostname} does not answer from this machine: {said}", mend


def _shake(hostname: str, port: int, name: str) -> None:
    """Connect, and shake hands for TLS. Who signed the certificate is not asked."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((hostname, port), timeout=_SECONDS) as wire:
        if port == 443:
            context.wrap_socket(wire, server_hostname=name).close()


def _within(work: Callable[[], _Answer]) -> _Answer:
    """Return the result of work that may block. Raise TimeoutError in time; its thread may live on."""
    try:
        return run_in_thread(work).result(_SECONDS)
    except Late as error:
        raise TimeoutError(f"no answer within {_SECONDS} s") from error
