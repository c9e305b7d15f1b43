"""Find a host's address, keys and jump hosts: from hosts.yaml, then ~/.ssh/config as OpenSSH reads it (`ssh -G`)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tasks.engine import plain_file, quote
from tasks.engine.config.inventory import Host
from tasks.engine.errors import Unreachable, UsageError

_VARIABLE = re.compile(r"\$\{(\w+)\}")


def _ignore(_: str) -> None:
    """Ignore the message."""


@dataclass(frozen=True)
class Options:
    """Fabric's core flags: -i (identities), -S (ssh_config), -t (seconds to connect), -T (seconds for a step).

    tell: called with the message that a connection is tried again.
    """

    identities: tuple[str, ...] = ()
    config: str | None = None
    connect_timeout: int = 10
    command_timeout: int | None = None
    tell: Callable[[str], None] = field(default=_ignore, compare=False)


class Endpoint(NamedTuple):
    """One hop.

    alias: its HostKeyAlias, which names it in known_hosts; asked: its name in ssh_config
    jumps: the hops before it, the first one first; named_identity: whether hosts.yaml or -i names its key
    revoked: files of RevokedHostKeys; behind: the hosts that this jump host leads to, the nearest first, else empty
    """

    name: str
    hostname: str
    port: int
    user: str
    identities: tuple[Path, ...]
    known_hosts: tuple[Path, ...]
    alias: str | None = None
    pin: str | None = None
    proxy_command: str | None = None
    jumps: tuple[str, ...] = ()
    named_identity: bool = False
    asked: str = ""
    revoked: tuple[Path, ...] = ()
    behind: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The host of the inventory for messages, with the name of the jump host if this is one."""
        return f"{self.behind[-1]} (jump host {self.name})" if self.behind else self.name

    @property
    def known_as(self) -> str:
        """The name in known_hosts."""
        return self.alias or self.address

    @property
    def address(self) -> str:
        """Host name and port, as OpenSSH and paramiko write them for a host key."""
        return self.hostname if self.port == 22 else f"[{self.hostname}]:{self.port}"


def resolve(host: Host, options: Options, user: str | None = None) -> Endpoint:
    """Return the endpoint of a host of the inventory. user: the account to log in as, in place of that of hosts.yaml.

    Raise UsageError for an account that no sudo rule can name: the login may become the deploy account.
    """
    settings = _ask(host.address, options, user or host.user, host.port)
    identities = options.identities or ((host.identity,) if host.identity else ())
    endpoint = _endpoint(host.name, host.address, settings, identities, host.host_key)
    if not quote.is_account(endpoint.user):
        raise UsageError(
            f"{endpoint.user!r} cannot be logged in as: in a sudo rule it would not mean one account",
            where=str(host.place),
            next=f"write `user:` of {host.name} at {host.place}, or correct User in ssh_config",
        )
    return endpoint


def resolve_hop(hop: str, options: Options) -> Endpoint:
    """Return the endpoint of a jump host, as `ProxyJump` names it: [user@]host[:port]."""
    parts = re.fullmatch(r"(?:ssh://)?(?:([^@]+)@)?(\[[^\]]+\]|[^:@]+)(?::(\d+))?", hop)
    if parts is None:
        raise Unreachable(f"ssh_config names a jump host that cannot be read: {hop!r}")
    port = int(parts[3]) if parts[3] else None
    address = parts[2].strip("[]")
    return _endpoint(hop, address, _ask(address, options, parts[1], port), (), None)


def before(endpoint: Endpoint, options: Options) -> Endpoint | None:
    """Return the jump host that leads to this endpoint, with the hops before it; None for a direct connection."""
    if not endpoint.jumps:
        return None
    *first, last = endpoint.jumps
    *hops, host = endpoint.name, *endpoint.behind
    if last in hops:
        raise Unreachable(
            f"its jump hosts lead in a circle: {', '.join([host, *reversed(hops), last])}",
            where=host,
            next=f"correct ProxyJump in ssh_config: ssh -G {last}",
            code="ssh-config",
        )
    try:
        hop = resolve_hop(last, options)
    except Unreachable as error:
        error.where = f"{host} (jump host {last})"
        raise
    return hop._replace(jumps=tuple(first) or hop.jumps, behind=(*hops, host))


def _endpoint(
    name: str, asked: str, settings: dict[str, list[str]], identities: tuple[str, ...], pin: str | None
) -> Endpoint:
    def first(key: str, default: str) -> str:
        return settings.get(key, [default])[0]

    command, jump = first("proxycommand", "none"), first("proxyjump", "none")
    files = identities or tuple(settings.get("identityfile", []))
    known = " ".join(settings.get("userknownhostsfile", []) + settings.get("globalknownhostsfile", []))
    hostname = first("hostname", name)
    return Endpoint(
        name=name,
        hostname=hostname,
        port=int(first("port", "22")),
        user=first("user", "root"),
        identities=tuple(path for path in map(plain_file.named, files) if path.is_file() or identities),
        known_hosts=tuple(map(plain_file.named, known.split())),
        alias=first("hostkeyalias", "") or None,
        pin=pin,
        proxy_command=None if command == "none" else command,
        # ssh -G puts every address into brackets; only IPv6 needs them.
        jumps=() if jump == "none" else tuple(re.sub(r"\[([^]:]*)\]", r"\1", jump).split(",")),
        named_identity=bool(identities),
        asked=asked,
        revoked=tuple(plain_file.named(word) for word in first("revokedhostkeys", "none").split() if word != "none"),
    )


def _ask(address: str, options: Options, user: str | None, port: int | None) -> dict[str, list[str]]:
    """Return the settings of `ssh -G`, key to values in order; without ssh, the few keys that paramiko understands."""
    if shutil.which("ssh") is None:
        return _ask_paramiko(address, options, user, port)
    command = ["ssh", "-G", *(["-F", options.config] if options.config else [])]
    command += [*(["-l", user] if user else []), *(["-p", str(port)] if port else []), "--", address]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, check=False)
    if answer.returncode:
        raise Unreachable(
            "ssh cannot read its configuration for this host",
            where=address,
            next=f"ssh -G {address}",
            code="ssh-config",
            detail=tuple(answer.stderr.splitlines()[-3:]),
        )
    settings: dict[str, list[str]] = {}
    for line in answer.stdout.splitlines():
        key, _, value = line.partition(" ")
        settings.setdefault(key.lower(), []).append(value)
    # ssh -G expands the tokens of the others.
    for key in ("proxycommand", "identityfile", "revokedhostkeys"):
        settings[key] = [_expand(text, address, settings) for text in settings.get(key, ["none"])]
    settings["identityfile"] = [_VARIABLE.sub(_value, text) for text in settings["identityfile"]]
    return settings


def _expand(text: str, address: str, settings: dict[str, list[str]]) -> str:
    """Return a text of ssh_config with its tokens filled in, except %C, %i and those of the controller's name."""
    values = {"%": "%", "n": address, "d": str(plain_file.named("~")), "u": os.environ.get("USER", "%u")}
    values |= {sign: settings.get(key, [""])[0] for sign, key in (("h", "hostname"), ("p", "port"), ("r", "user"))}
    values["k"] = settings.get("hostkeyalias", [values["h"]])[0]
    return re.sub(r"%([%dhknpru])", lambda sign: values[sign[1]], text)


def _value(variable: re.Match[str]) -> str:
    """Return the value of an environment variable, or its name as it is written if it is not set."""
    return os.environ.get(variable[1], variable[0])


def _ask_paramiko(address: str, options: Options, user: str | None, port: int | None) -> dict[str, list[str]]:
    from paramiko import SSHConfig

    path = plain_file.named(options.config or "~/.ssh/config")
    config = SSHConfig.from_path(str(path)) if path.exists() else SSHConfig()
    entry = config.lookup(address)
    settings = {key: [value] if isinstance(value, str) else list(value) for key, value in entry.items()}
    settings.setdefault("user", [os.environ.get("USER", "root")])
    settings.setdefault("userknownhostsfile", ["~/.ssh/known_hosts"])
    settings.setdefault("globalknownhostsfile", ["/etc/ssh/ssh_known_hosts"])
    settings.setdefault("identityfile", ["~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"])
    if user:
        settings["user"] = [user]
    if port:
        settings["port"] = [str(port)]
    return settings
