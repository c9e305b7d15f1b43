"""The only way to a host: one hardened SSH connection for a whole run.

Fabric and paramiko verify no host key by themselves, wait an hour for a channel, and leave Nagle's algorithm on; every
Connection, jump hosts included, comes from `_connection`, which mends all of that.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.engine import plain_file
from tasks.engine.config.inventory import Host
from tasks.engine.errors import Unreachable
from tasks.engine.ssh import auth, byte_stream, connect_errors, host_keys
from tasks.engine.ssh.byte_stream import LINK_SECONDS as LINK_SECONDS
from tasks.engine.ssh.byte_stream import Wire
from tasks.engine.ssh.host_keys import Trust
from tasks.engine.ssh.ssh_config import Endpoint, Options, before, resolve

if TYPE_CHECKING:
    from paramiko.pkey import PKey

_Made = TypeVar("_Made")

# It prints tracebacks of what is reported here in a sentence.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

# What paramiko still offers and nobody should take.
_DISABLED = {
    "ciphers": ["aes128-cbc", "aes192-cbc", "aes256-cbc", "3des-cbc"],
    "macs": ["hmac-sha1", "hmac-md5", "hmac-sha1-96", "hmac-md5-96"],
    # It would inflate what comes before the host's key is judged.
    "compression": ["zlib"],
}
_WAITS = (0.25, 0.5, 1.0)
"""Seconds before each further attempt at a port that hung up at once."""

# An sshd lets few be about to log in at the same time (MaxStartups), and that of a jump host meets the whole fleet.
_AT_A_TIME = 2
_turns: defaultdict[tuple[str, int], threading.Semaphore] = defaultdict(lambda: threading.Semaphore(_AT_A_TIME))
_guard = threading.Lock()


def connect(endpoint: Endpoint, options: Options) -> Any:
    """An open Connection to a host that was proven to be the one we know; Unreachable otherwise."""

    credentials = _credentials(endpoint)

    def log_in(line: Wire) -> Any:
        connection = _connection(endpoint, options, line, credentials)
        connection.open()
        return connection

    return _reached(endpoint, options, log_in)


def offered_key(host: Host, options: Options) -> tuple[Endpoint, PKey]:
    """The key that a host shows, asked for without sending anything about us."""
    endpoint = resolve(host, options)

    def ask(line: Wire) -> PKey:
        transport = auth.transport(host_keys.known(endpoint))(line)
        try:
            transport.start_client(timeout=options.connect_timeout)
            return transport.get_remote_server_key()
        finally:
            transport.close()

    return endpoint, _reached(endpoint, options, ask)


def _reached(endpoint: Endpoint, options: Options, shake: Callable[[Wire], _Made]) -> _Made:
    """What `shake` makes of a wire to the endpoint; a port that hangs up at once is tried again, and that is told."""
    hop = before(endpoint, options)
    gateway = connect(hop, options) if hop else None
    try:
        with _turn(endpoint):
            for wait in _WAITS:
                try:
                    return _tried(endpoint, options, gateway, shake)
                except connect_errors.HungUp as error:
                    options.tell(f"{endpoint.place}: {error.message}; trying again in {wait:g} s")
                    time.sleep(wait)
            return _tried(endpoint, options, gateway, shake)
    except BaseException:
        if gateway:
            gateway.close()
        raise


def _turn(endpoint: Endpoint) -> threading.Semaphore:
    with _guard:
        return _turns[endpoint.hostname, endpoint.port]


def _tried(endpoint: Endpoint, options: Options, gateway: Any, shake: Callable[[Wire], _Made]) -> _Made:
    """One attempt; whatever can go wrong on it, as one sentence with the way on."""
    from paramiko import SSHException

    line = None
    with ExitStack() as undo:
        try:
            line = _line(endpoint, options, gateway)
            undo.callback(line.close)
            made = shake(line)
        except (OSError, EOFError, SSHException, ValueError) as error:
            raise connect_errors.explain(endpoint, options, error, line) from error
        if gateway:
            line.then(gateway.close)
        undo.pop_all()
    return made


def _line(endpoint: Endpoint, options: Options, gateway: Any) -> Wire:
    if gateway:
        to = (endpoint.hostname, endpoint.port)
        return Wire(gateway.transport.open_channel("direct-tcpip", to, ("", 0), timeout=options.connect_timeout))
    return byte_stream.proxied(endpoint.proxy_command) if endpoint.proxy_command else byte_stream.tcp(endpoint, options)


def _connection(endpoint: Endpoint, options: Options, line: Wire, credentials: Mapping[str, Any]) -> Any:
    """The one place that makes a Connection."""
    from fabric import Config, Connection
    from paramiko import SSHConfig

    trust = host_keys.known(endpoint)
    connection = Connection(
        host=endpoint.hostname,
        user=endpoint.user,
        port=endpoint.port,
        # Neither ~/.ssh/config, which `ssh -G` has read, nor files of Fabric decide about a connection.
        config=Config(ssh_config=SSHConfig(), lazy=True),
        connect_timeout=options.connect_timeout,
        connect_kwargs={
            "allow_agent": False,
            "look_for_keys": False,
            "banner_timeout": options.connect_timeout,
            "auth_timeout": 30,
            "channel_timeout": LINK_SECONDS,
            # A deploy is a hundred kilobytes of shell text: a fifth of them on the way.
            "compress": True,
            "disabled_algorithms": _DISABLED,
            "transport_factory": auth.transport(trust),
            "sock": line,
            **credentials,
        },
    )
    # Paramiko is told of no key, so that this is asked about every one.
    connection.client.set_missing_host_key_policy(_policy(endpoint, trust))
    return connection


def _policy(endpoint: Endpoint, trust: Trust) -> Any:
    from paramiko import MissingHostKeyPolicy

    class Judge(MissingHostKeyPolicy):  # type: ignore[misc]  # paramiko is untyped
        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:  # noqa: ARG002 - paramiko's signature
            host_keys.judge(endpoint, trust, key)

    return Judge()


def _credentials(endpoint: Endpoint) -> dict[str, Any]:
    """One key where we know which; the agent is asked for exactly that one, and for all only when none is named."""
    held = _agent_keys() if os.environ.get("SSH_AUTH_SOCK") else []
    for path in endpoint.identities:
        public = path.with_name(path.name + ".pub")
        with suppress(OSError):
            words = plain_file.read(public).decode(errors="replace").split()
            for key in held:
                if len(words) > 1 and key.get_base64() == words[1]:
                    return {"pkey": key}
    for path in endpoint.identities if endpoint.named_identity else ():
        if not path.is_file():
            raise Unreachable(f"there is no key {path}", where=endpoint.place, next="correct `identity:` in hosts.yaml",
                              code="authentication")  # fmt: skip
    if held and not endpoint.named_identity:
        return {"allow_agent": True, "key_filename": [str(path) for path in endpoint.identities]}
    return {"key_filename": [str(path) for path in endpoint.identities]}


def _agent_keys() -> list[Any]:
    from paramiko import Agent, SSHException

    try:
        return list(Agent().get_keys())
    except SSHException:
        return []
