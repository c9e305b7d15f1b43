"""Open the hardened SSH connection that a whole run uses: the only way to a host.

Fabric and paramiko verify no host key by themselves, wait an hour for a channel, and leave Nagle's algorithm on.
`_connection` fixes all three, and makes every Connection, to jump hosts too.
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
from tasks.engine.ssh.byte_stream import LINK_SECONDS, Wire
from tasks.engine.ssh.host_keys import Trust
from tasks.engine.ssh.ssh_config import Endpoint, Options, before, resolve

if TYPE_CHECKING:
    from paramiko.pkey import PKey

_Made = TypeVar("_Made")

# Paramiko logs tracebacks of errors that we report in a sentence.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

# Weak algorithms that paramiko still offers.
_DISABLED = {
    "ciphers": ["aes128-cbc", "aes192-cbc", "aes256-cbc", "3des-cbc"],
    "macs": ["hmac-sha1", "hmac-md5", "hmac-sha1-96", "hmac-md5-96"],
    # Plain zlib would inflate data before the host key is checked.
    "compression": ["zlib"],
}
_WAITS = (0.25, 0.5, 1.0)
"""Seconds before each further attempt at a port that hung up at once."""

# sshd limits unauthenticated connections (MaxStartups), and a jump host's sshd gets those of the whole fleet.
_AT_A_TIME = 2
_turns: defaultdict[tuple[str, int], threading.Semaphore] = defaultdict(lambda: threading.Semaphore(_AT_A_TIME))
_guard = threading.Lock()


def connect(endpoint: Endpoint, options: Options) -> Any:
    """Return an open Connection to a host whose key was verified; Unreachable otherwise."""

    credentials = _credentials(endpoint)

    def log_in(line: Wire) -> Any:
        connection = _connection(endpoint, options, line, credentials)
        connection.open()
        return connection

    return _reached(endpoint, options, log_in)


def offered_key(host: Host, options: Options) -> tuple[Endpoint, PKey]:
    """Return the key that a host offers, without sending a user name or key of ours."""
    endpoint = resolve(host, options)

    def ask(line: Wire) -> PKey:
        transport = auth.transport_class(host_keys.load_trust(endpoint))(line)
        try:
            transport.start_client(timeout=options.connect_timeout)
            return transport.get_remote_server_key()
        finally:
            transport.close()

    return endpoint, _reached(endpoint, options, ask)


def _reached(endpoint: Endpoint, options: Options, shake: Callable[[Wire], _Made]) -> _Made:
    """Return the result of `shake` on a wire to the endpoint; report and retry a port that hangs up at once."""
    hop = before(endpoint, options)
    jump = connect(hop, options) if hop else None
    try:
        with _turn(endpoint):
            for wait in _WAITS:
                try:
                    return _tried(endpoint, options, jump, shake)
                except connect_errors.HungUp as error:
                    options.tell(f"{endpoint.place}: {error.message}; trying again in {wait:g} s")
                    time.sleep(wait)
            return _tried(endpoint, options, jump, shake)
    except BaseException:
        if jump:
            jump.close()
        raise


def _turn(endpoint: Endpoint) -> threading.Semaphore:
    with _guard:
        return _turns[endpoint.hostname, endpoint.port]


def _tried(endpoint: Endpoint, options: Options, jump: Any, shake: Callable[[Wire], _Made]) -> _Made:
    """Make one attempt; turn any failure into one sentence with the next step."""
    from paramiko import SSHException

    line = None
    with ExitStack() as undo:
        try:
            line = _line(endpoint, options, jump)
            undo.callback(line.close)
            made = shake(line)
        except (OSError, EOFError, SSHException, ValueError) as error:
            raise connect_errors.explain(endpoint, options, error, line) from error
        if jump:
            line.on_close(jump.close)
        undo.pop_all()
    return made


def _line(endpoint: Endpoint, options: Options, jump: Any) -> Wire:
    if jump:
        to = (endpoint.hostname, endpoint.port)
        return Wire(jump.transport.open_channel("direct-tcpip", to, ("", 0), timeout=options.connect_timeout))
    command = endpoint.proxy_command
    return byte_stream.run_proxy(command) if command else byte_stream.open_tcp(endpoint, options)


def _connection(endpoint: Endpoint, options: Options, line: Wire, credentials: Mapping[str, Any]) -> Any:
    """Make a Connection; no other code does."""
    from fabric import Config, Connection
    from paramiko import SSHConfig

    trust = host_keys.load_trust(endpoint)
    connection = Connection(
        host=endpoint.hostname,
        user=endpoint.user,
        port=endpoint.port,
        # An empty config: `ssh -G` has read ~/.ssh/config already, and Fabric's files must not change a connection.
        config=Config(ssh_config=SSHConfig(), lazy=True),
        connect_timeout=options.connect_timeout,
        connect_kwargs={
            "allow_agent": False,
            "look_for_keys": False,
            "banner_timeout": options.connect_timeout,
            "auth_timeout": 30,
            "channel_timeout": LINK_SECONDS,
            # The host's program and the steps are text, which compresses to a fifth.
            "compress": True,
            "disabled_algorithms": _DISABLED,
            "transport_factory": auth.transport_class(trust),
            "sock": line,
            **credentials,
        },
    )
    # Paramiko gets no known keys, so it passes every host key to this policy.
    connection.client.set_missing_host_key_policy(_policy(endpoint, trust))
    return connection


def _policy(endpoint: Endpoint, trust: Trust) -> Any:
    from paramiko import MissingHostKeyPolicy

    class Verify(MissingHostKeyPolicy):  # type: ignore[misc]  # paramiko is untyped
        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:  # noqa: ARG002 - paramiko's signature
            host_keys.verify(endpoint, trust, key)

    return Verify()


def _credentials(endpoint: Endpoint) -> dict[str, Any]:
    """Return the one key to use, from the agent if it holds it; all of the agent's keys only if none is named."""
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
