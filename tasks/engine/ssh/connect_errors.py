"""Why a host was not reached or did not let us in: one sentence and the way on, from how far we came."""

from __future__ import annotations

import shlex
import socket
from typing import Any

from paramiko.ssh_exception import ChannelException, PasswordRequiredException

from tasks.engine.errors import Unreachable
from tasks.engine.ssh.byte_stream import Wire
from tasks.engine.ssh.ssh_config import Endpoint, Options

# What sshd says before it hangs up: that too many are about to log in, or that too many logins failed.
_CROWDED, _PENALTY = "MaxStartups", "Not allowed at this time"


_LONGEST = 300
"""Letters of what a host says that are shown."""
_NAMED = "as `identity:` in hosts.yaml, or with -i"


class HungUp(Unreachable):
    """It hung up before it named itself, for a reason that may be gone in a moment."""


def explain(endpoint: Endpoint, options: Options, error: BaseException, line: Wire | None) -> Unreachable:
    """The refusal; line: the way there, if that far we came."""
    if isinstance(error, socket.gaierror):
        way = (
            f"correct ProxyJump in ssh_config: ssh -G {endpoint.asked}"
            if endpoint.behind
            else "set `address:` in hosts.yaml"
        )
        return Unreachable(f"the name {endpoint.hostname!r} is not known", where=endpoint.place, next=way)
    if isinstance(error, PasswordRequiredException):
        files = ", ".join(str(path) for path in endpoint.identities)
        told = f"the key needs a passphrase, and no agent holds it: {files}"
        return Unreachable(told, where=endpoint.place, next="let ssh-agent hold it: ssh-add", code="authentication")
    if isinstance(error, ChannelException):
        return _no_way_through(endpoint, error)
    if line is not None and line.transport and line.transport.breach:
        return _no_connection(endpoint, options, str(line.transport.breach))
    if line is not None and line.transport and line.transport.initial_kex_done:
        return _not_let_in(endpoint, options, error, line.transport)
    if line is not None and not line.speaks:
        return _no_ssh(endpoint, options, error, line)
    return _no_connection(endpoint, options, words(error))


def _no_connection(endpoint: Endpoint, options: Options, told: str, detail: tuple[str, ...] = ()) -> Unreachable:
    return Unreachable(
        f"no connection to {endpoint.hostname} port {endpoint.port}: {told}",
        where=endpoint.place,
        next=f"try by hand: {_by_hand(endpoint, options)}",
        detail=detail,
    )


def _no_ssh(endpoint: Endpoint, options: Options, error: BaseException, line: Wire) -> Unreachable:
    """It took the connection, and never named itself."""
    if endpoint.proxy_command:
        told = f"its ProxyCommand gives none: {endpoint.proxy_command}"
        return _no_connection(endpoint, options, told, line.complaint)
    if _PENALTY in line.heard:
        return Unreachable(
            f"its sshd turns us away for a while, after logins that failed: {line.heard}",
            where=endpoint.place,
            next="correct the user or the key, and wait a minute: PerSourcePenalties in its sshd_config says how long",
        )
    if not line.ended:
        return _no_connection(endpoint, options, words(error))
    way = f"try by hand: {_by_hand(endpoint, options)}"
    if _CROWDED in line.heard:
        way = "run it again when fewer log in there, or raise MaxStartups in its sshd_config"
    told = f"port {endpoint.port} of {endpoint.hostname} hangs up before it speaks SSH"
    return HungUp(f"{told}: {line.heard}" if line.heard else told, where=endpoint.place, next=way)


def _not_let_in(endpoint: Endpoint, options: Options, error: BaseException, transport: Any) -> Unreachable:
    """It is the host that we know, and it refuses us."""
    user = endpoint.user
    files = ", ".join(str(path) for path in endpoint.identities) or "no key"
    takes = ", ".join(getattr(error, "allowed_types", ()))[:_LONGEST]
    way = f"try by hand: {_by_hand(endpoint, options)}"
    if transport.asked_for_more:
        told = f"the host wants more than a key of {user}: a password or a code, and nobody is asked for one"
        way = f"let {user} in there by its key alone: AuthenticationMethods publickey in its sshd_config"
    elif takes:
        told = f"the host lets nobody in with a key, as {user}: it takes {takes}"
        way = "allow it there: PubkeyAuthentication in its sshd_config"
    elif transport.is_active():
        told = f"the host does not let {user} in with {files}"
        way += f"; name the key {'as IdentityFile in ssh_config' if endpoint.behind else _NAMED}"
    else:
        cause = "account locked, or too many keys offered (MaxAuthTries)"
        told = f"the host closed the connection during login as {user}: {cause}"
        way += "; an agent with many keys is asked for one alone when `identity:` in hosts.yaml names it"
    banner = (transport.auth_handler.banner if transport.auth_handler else None) or b""
    said = tuple(line[:_LONGEST] for line in banner.decode("utf-8", "replace").splitlines() if line.strip())
    return Unreachable(told, where=endpoint.place, next=way, code="authentication", detail=said[-3:])


def _no_way_through(endpoint: Endpoint, error: ChannelException) -> Unreachable:
    """The jump host let us in, and leads no further."""
    hop = endpoint.jumps[-1]
    return Unreachable(
        f"the jump host {hop} opens no way to {endpoint.hostname} port {endpoint.port}: {error.text}",
        where=endpoint.place,
        next=f"try from there: ssh {hop}; its sshd_config has to allow it: AllowTcpForwarding, PermitOpen",
    )


def _by_hand(endpoint: Endpoint, options: Options) -> str:
    """The ssh that shows the same."""
    key = [word for path in endpoint.identities for word in ("-i", str(path))] if endpoint.named_identity else []
    config = ["-F", options.config] if options.config else []
    return shlex.join(
        ["ssh", *config, "-p", str(endpoint.port), *key, f"{endpoint.user}@{endpoint.asked or endpoint.hostname}"]
    )


def words(error: BaseException) -> str:
    """What an exception on the way to a host says, in words."""
    if isinstance(error, ChannelException):
        return str(error.text)
    text = str(error).strip()[:_LONGEST]
    if isinstance(error, TimeoutError) or not text:
        return "it does not answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # Paramiko's words for a host that accepted and then never spoke.
    return "it accepts, and then does not speak SSH" if "No existing session" in text or "banner" in text else text
