"""Explain why a host was not reached or refused the login: one sentence and the next step, by how far we came."""

from __future__ import annotations

import shlex
import socket
from typing import Any

from paramiko.ssh_exception import ChannelException, PasswordRequiredException

from tasks.engine.errors import Unreachable
from tasks.engine.ssh.byte_stream import Wire
from tasks.engine.ssh.ssh_config import Endpoint, Options

# sshd sends these before it hangs up: too many unauthenticated connections, or too many failed logins.
_CROWDED, _PENALTY = "MaxStartups", "Not allowed at this time"
_LONGEST = 300
"""Characters shown of a host's text."""
_NAMED = "as `identity:` in hosts.yaml, or with -i"


class HungUp(Unreachable):
    """The port hung up before it sent its SSH version; a retry may succeed."""


def explain(endpoint: Endpoint, options: Options, error: BaseException, line: Wire | None) -> Unreachable:
    """Return the error for the user. line: the stream to the port, None if it was not opened."""
    if isinstance(error, socket.gaierror):
        way = (
            f"correct ProxyJump in ssh_config: ssh -G {endpoint.asked}"
            if endpoint.behind
            else "set `address:` in hosts.yaml"
        )
        return Unreachable(f"the name {endpoint.hostname!r} is not known", where=endpoint.place, next=way)
    if isinstance(error, PasswordRequiredException):
        files = ", ".join(str(path) for path in endpoint.identities)
        message = f"the key needs a passphrase, and no agent holds it: {files}"
        return Unreachable(message, where=endpoint.place, next="let ssh-agent hold it: ssh-add", code="authentication")
    if isinstance(error, ChannelException):
        return _no_way_through(endpoint, error)
    if line is not None and line.transport and line.transport.breach:
        return _no_connection(endpoint, options, str(line.transport.breach))
    if line is not None and line.transport and line.transport.initial_kex_done:
        return _not_let_in(endpoint, options, error, line.transport)
    if line is not None and not line.is_ssh:
        return _no_ssh(endpoint, options, error, line)
    return _no_connection(endpoint, options, reason(error))


def _no_connection(endpoint: Endpoint, options: Options, why: str, detail: tuple[str, ...] = ()) -> Unreachable:
    return Unreachable(
        f"no connection to {endpoint.hostname} port {endpoint.port}: {why}",
        where=endpoint.place,
        next=f"try by hand: {_by_hand(endpoint, options)}",
        detail=detail,
    )


def _no_ssh(endpoint: Endpoint, options: Options, error: BaseException, line: Wire) -> Unreachable:
    """Return the error for a port that accepted the connection and sent no SSH version."""
    if endpoint.proxy_command:
        why = f"the ProxyCommand gives none: {endpoint.proxy_command}"
        return _no_connection(endpoint, options, why, line.stderr)
    if _PENALTY in line.greeting:
        return Unreachable(
            f"the host's sshd turns us away for a while, after logins that failed: {line.greeting}",
            where=endpoint.place,
            next="correct the user or the key, and wait a minute, or as long as PerSourcePenalties in sshd_config says",
        )
    if not line.ended:
        return _no_connection(endpoint, options, reason(error))
    way = f"try by hand: {_by_hand(endpoint, options)}"
    if _CROWDED in line.greeting:
        way = "run it again when fewer log in there, or raise MaxStartups in sshd_config of the host"
    message = f"port {endpoint.port} of {endpoint.hostname} hangs up before it speaks SSH"
    return HungUp(f"{message}: {line.greeting}" if line.greeting else message, where=endpoint.place, next=way)


def _not_let_in(endpoint: Endpoint, options: Options, error: BaseException, transport: Any) -> Unreachable:
    """Return the error for a host whose key is right and that refuses our login."""
    user = endpoint.user
    files = ", ".join(str(path) for path in endpoint.identities) or "no key"
    takes = ", ".join(getattr(error, "allowed_types", ()))[:_LONGEST]
    way = f"try by hand: {_by_hand(endpoint, options)}"
    if transport.asked_for_more:
        message = f"the host wants more than a key of {user}: a password or a code, and fab asks for neither"
        way = f"let {user} log in by key alone: AuthenticationMethods publickey in sshd_config of the host"
    elif takes:
        message = f"the host accepts no key for {user}, only: {takes}"
        way = "allow keys: PubkeyAuthentication in sshd_config of the host"
    elif transport.is_active():
        message = f"the host does not let {user} in with {files}"
        way += f"; name the key {'as IdentityFile in ssh_config' if endpoint.behind else _NAMED}"
    else:
        cause = "account locked, or too many keys offered (MaxAuthTries)"
        message = f"the host closed the connection during login as {user}: {cause}"
        way += "; an agent with many keys is asked for one alone when `identity:` in hosts.yaml names it"
    banner = (transport.auth_handler.banner if transport.auth_handler else None) or b""
    lines = tuple(line[:_LONGEST] for line in banner.decode("utf-8", "replace").splitlines() if line.strip())
    return Unreachable(message, where=endpoint.place, next=way, code="authentication", detail=lines[-3:])


def _no_way_through(endpoint: Endpoint, error: ChannelException) -> Unreachable:
    """Return the error for a jump host that let us in, but opens no channel to the endpoint."""
    hop = endpoint.jumps[-1]
    return Unreachable(
        f"the jump host {hop} opens no way to {endpoint.hostname} port {endpoint.port}: {error.text}",
        where=endpoint.place,
        next=f"try from there: ssh {hop}; sshd_config of {hop} must allow forwarding: AllowTcpForwarding, PermitOpen",
    )


def _by_hand(endpoint: Endpoint, options: Options) -> str:
    """Return the ssh command that fails in the same way."""
    key = [word for path in endpoint.identities for word in ("-i", str(path))] if endpoint.named_identity else []
    config = ["-F", options.config] if options.config else []
    return shlex.join(
        ["ssh", *config, "-p", str(endpoint.port), *key, f"{endpoint.user}@{endpoint.asked or endpoint.hostname}"]
    )


def reason(error: BaseException) -> str:
    """Return the reason in an exception from connecting to a host."""
    if isinstance(error, ChannelException):
        return str(error.text)
    text = str(error).strip()[:_LONGEST]
    if isinstance(error, TimeoutError) or not text:
        return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # Paramiko's texts for a host that accepted the connection and then sent nothing.
    return (
        "the port accepts, and then does not speak SSH" if "No existing session" in text or "banner" in text else text
    )
