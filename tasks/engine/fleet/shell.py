"""Open a terminal on one host by the system's `ssh -t`, with the same host keys, account and key as every run."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import sys
from pathlib import Path

from tasks.engine import misread, quote
from tasks.engine.errors import UsageError
from tasks.engine.fleet.member import Member
from tasks.engine.release import wheel_cache
from tasks.engine.ssh import connection
from tasks.engine.ssh.ssh_config import Endpoint, Options, resolve, resolve_hop

# These override ssh_config: refuse an unknown key, use no other source of keys, change no file, and share no connection
# that was opened under other rules.
_STRICT = (
    "StrictHostKeyChecking=yes",
    "NoHostAuthenticationForLocalhost=no",
    "VerifyHostKeyDNS=no",
    "UpdateHostKeys=no",
    "ControlPath=none",
    "IgnoreUnknown=KnownHostsCommand",
    "KnownHostsCommand=none",
)


def open_on(member: Member, line: str) -> None:
    """Verify the host, then replace this process by ssh. line: runs there in place of a login shell."""
    if shutil.which("ssh") is None:
        raise UsageError(
            "a terminal needs OpenSSH's client, and there is no ssh on this machine",
            where="PATH",
            next=f"install openssh-client, or: fab exec -H {member.host.name} -- COMMAND",
        )
    endpoint = resolve(member.host, member.options, member.user)
    # Connect once ourselves: a refusal then has our explanation and next step, which ssh's has not.
    with misread.as_error_of(member.host.name):
        connection.connect(endpoint, member.options).close()
    command = arguments(endpoint, member.host.address, member.options, _pins(endpoint))
    sys.stdout.flush()
    sys.stderr.flush()
    # Python ignores SIGPIPE, and ssh would inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execvp("ssh", [*command, *([line] if line else [])])  # noqa: S606 - deliberately without a shell


def arguments(endpoint: Endpoint, address: str, options: Options, pins: Path | None) -> list[str]:
    """Return the command line of ssh. pins: a known_hosts file with the pinned key alone. Pure."""
    words = ["ssh", "-t", *_common(endpoint, options)]
    if pins:
        words += ["-o", f"UserKnownHostsFile={_path(pins)}", "-o", "GlobalKnownHostsFile=/dev/null"]
    if endpoint.jumps:
        words += ["-o", f"ProxyCommand={_through(endpoint.jumps, options)}"]
    return [*words, "--", address]


def _common(endpoint: Endpoint, options: Options) -> list[str]:
    words = ["-F", options.config] if options.config else []
    for setting in (*_STRICT, f"ConnectTimeout={options.connect_timeout}"):
        words += ["-o", setting]
    if endpoint.known_hosts and not endpoint.pin:
        words += ["-o", f"UserKnownHostsFile={' '.join(map(_path, endpoint.known_hosts))}"]
    if endpoint.named_identity:
        words += ["-o", "IdentitiesOnly=yes"]
        for path in endpoint.identities:
            words += ["-i", str(path)]
    return [*words, "-l", endpoint.user, "-p", str(endpoint.port)]


def _through(jumps: tuple[str, ...], options: Options) -> str:
    """Return a ProxyCommand that does what `-J` does, but checks the jump hosts' keys by our rules."""
    *first, last = jumps
    hop = resolve_hop(last, options)
    before = tuple(first) or hop.jumps
    words = ["ssh", *_common(hop, options)]
    if before:
        words += ["-o", f"ProxyCommand={_through(before, options)}"]
    # ssh expands percent signs, here and again in each nested command.
    text = shlex.join(words).replace("%", "%%")
    return f"{text} -W '[%h]:%p' -- {quote.shell(_host(last))}"


def _host(hop: str) -> str:
    """Return the name in [user@]host[:port], which ssh_config knows the hop by."""
    name = hop.removeprefix("ssh://").rpartition("@")[2]
    return name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]


def _path(path: Path) -> str:
    return f'"{path}"' if " " in str(path) else str(path)


def _pins(endpoint: Endpoint) -> Path | None:
    """Write the pin to a file named by its digest; return its path. It stays, as ssh reads it after we are gone."""
    if endpoint.pin is None:
        return None
    text = f"* {' '.join(endpoint.pin.split()[:2])}\n"
    path = wheel_cache.default_root().with_name("pins") / hashlib.sha256(text.encode()).hexdigest()[:16]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_name(f".part-{os.getpid()}")
    aside.write_text(text, encoding="ascii")
    aside.rename(path)
    return path
