"""The only way to a host: one hardened SSH connection for a whole run.

Fabric and paramiko verify no host key by themselves, wait an hour for a channel, and leave Nagle's algorithm on; every
Connection, gateways included, comes from `_connection`, which mends all of that.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tasks.engine import host_keys
from tasks.engine.errors import Unreachable
from tasks.engine.inventory import Host
from tasks.engine.ssh_config import Endpoint, Options, resolve, resolve_hop

if TYPE_CHECKING:
    from paramiko.pkey import PKey

# It prints tracebacks of what is reported here in a sentence.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

# What paramiko still offers and nobody should take.
_DISABLED = {
    "ciphers": ["aes128-cbc", "aes192-cbc", "aes256-cbc", "3des-cbc"],
    "macs": ["hmac-sha1", "hmac-md5", "hmac-sha1-96", "hmac-md5-96"],
}
LINK_SECONDS = 15
"""How long a peer may keep silent where it has to answer."""


def connect(endpoint: Endpoint, options: Options) -> Any:
    """An open Connection to a host that was proven to be the one we know; Unreachable otherwise."""
    with _reported(endpoint):
        connection = _connection(endpoint, options)
        connection.open()
        return connection


def offered_key(host: Host, options: Options) -> tuple[Endpoint, PKey]:
    """The key that a host shows, asked for without sending anything about us."""
    from paramiko import Transport

    endpoint = resolve(host, options)
    with _reported(endpoint):
        sock = _gateway_socket(endpoint, options) or _socket(endpoint, options)
        transport = Transport(sock)
        try:
            transport.start_client(timeout=options.connect_timeout)
            return endpoint, transport.get_remote_server_key()
        finally:
            transport.close()


def _gateway_socket(endpoint: Endpoint, options: Options) -> Any:
    gateway = _gateway(endpoint, options)
    if gateway is None:
        return None
    gateway.open()
    return gateway.transport.open_channel("direct-tcpip", (endpoint.hostname, endpoint.port), ("", 0))


def _connection(endpoint: Endpoint, options: Options) -> Any:
    """The one place that makes a Connection."""
    from fabric import Config, Connection
    from paramiko import SSHConfig

    gateway = _gateway(endpoint, options)
    arguments: dict[str, Any] = {
        "allow_agent": False,
        "look_for_keys": False,
        "banner_timeout": options.connect_timeout,
        "auth_timeout": 30,
        "channel_timeout": LINK_SECONDS,
        "disabled_algorithms": _DISABLED,
        **_credentials(endpoint),
    }
    if gateway is None:
        arguments["sock"] = _socket(endpoint, options)
    connection = Connection(
        host=endpoint.hostname,
        user=endpoint.user,
        port=endpoint.port,
        # Neither ~/.ssh/config, which `ssh -G` has read, nor files of Fabric decide about a connection.
        config=Config(ssh_config=SSHConfig(), lazy=True),
        gateway=gateway,
        connect_timeout=options.connect_timeout,
        connect_kwargs=arguments,
    )
    trust = host_keys.known(endpoint)
    for key in trust.keys[:1]:
        # Under the name that paramiko looks it up by, to ask the host for a key of this type.
        connection.client.get_host_keys().add(endpoint.address, key.get_name(), key)
    connection.client.set_missing_host_key_policy(_policy(endpoint, trust))
    return connection


def _gateway(endpoint: Endpoint, options: Options) -> Any:
    """The Connection before this one, each hop held to the same rule; None without jump hosts."""
    if not endpoint.jumps:
        return None
    *before, last = endpoint.jumps
    hop = resolve_hop(last, options)
    return _connection(replace(hop, jumps=(*before, *hop.jumps)), options)


def _policy(endpoint: Endpoint, trust: host_keys.Trust) -> Any:
    from paramiko import MissingHostKeyPolicy

    class Judge(MissingHostKeyPolicy):  # type: ignore[misc]  # paramiko is untyped
        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:  # noqa: ARG002 - paramiko's signature
            host_keys.judge(endpoint, trust, key)

    return Judge()


def _socket(endpoint: Endpoint, options: Options) -> Any:
    """A TCP socket without Nagle's delay, which costs 40 ms a channel, and with an end for a peer that is gone."""
    if endpoint.proxy_command:
        from paramiko import ProxyCommand

        return ProxyCommand(endpoint.proxy_command)
    sock = socket.create_connection((endpoint.hostname, endpoint.port), timeout=options.connect_timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * LINK_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    return sock


def _credentials(endpoint: Endpoint) -> dict[str, Any]:
    """One key where we know which; the agent is asked for exactly that one, and for all only when none is named."""
    held = _agent_keys() if os.environ.get("SSH_AUTH_SOCK") else []
    for path in endpoint.identities:
        public = path.with_name(path.name + ".pub")
        if public.exists():
            words = public.read_text(encoding="utf-8", errors="replace").split()
            for key in held:
                if len(words) > 1 and key.get_base64() == words[1]:
                    return {"pkey": key}
    for path in endpoint.identities if endpoint.named_identity else ():
        if not path.is_file():
            raise Unreachable(f"there is no key {path}", where=endpoint.name, next="correct `identity:` in hosts.yaml",
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


@contextmanager
def _reported(endpoint: Endpoint) -> Iterator[None]:
    """Whatever can go wrong on the way to a host, as one sentence with the way on."""
    from paramiko import AuthenticationException, BadHostKeyException, PasswordRequiredException, SSHException

    by_hand = f"ssh -p {endpoint.port} {endpoint.user}@{endpoint.hostname}"
    try:
        yield
    except BadHostKeyException as error:
        host_keys.judge(endpoint, host_keys.known(endpoint), error.key)
        raise Unreachable("the host key has changed", where=endpoint.name, code="host-key") from error
    except PasswordRequiredException as error:
        raise Unreachable(
            "the key needs a passphrase, and no agent holds it: "
            + ", ".join(str(path) for path in endpoint.identities),
            where=endpoint.name,
            next="let ssh-agent hold it: ssh-add",
            code="authentication",
        ) from error
    except AuthenticationException as error:
        raise _not_let_in(endpoint, by_hand) from error
    except socket.gaierror as error:
        raise Unreachable(
            f"the name {endpoint.hostname!r} is not known", where=endpoint.name, next="set `address:` in hosts.yaml"
        ) from error
    except (OSError, EOFError, SSHException) as error:
        if "No authentication methods" in str(error):
            raise _not_let_in(endpoint, by_hand) from error
        raise Unreachable(
            f"no connection to {endpoint.hostname} port {endpoint.port}: {words(error)}",
            where=endpoint.name,
            next=f"try by hand: {by_hand}",
        ) from error


def _not_let_in(endpoint: Endpoint, by_hand: str) -> Unreachable:
    files = ", ".join(str(path) for path in endpoint.identities) or "no key"
    return Unreachable(
        f"the host does not let {endpoint.user} in with {files}",
        where=endpoint.name,
        next=f"try by hand: {by_hand}; name the key as `identity:` in hosts.yaml, or with -i",
        code="authentication",
    )


def words(error: BaseException) -> str:
    """What an exception on the way to a host says, in words."""
    text = str(error).strip()
    if isinstance(error, TimeoutError) or not text:
        return "it does not answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # Paramiko's words for a host that accepted and then never spoke.
    return "it accepts, and then does not speak SSH" if "No existing session" in text or "banner" in text else text
