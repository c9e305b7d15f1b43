"""Read the value of a secret from a prompt, standard input or a command; it is shown and written nowhere."""

from __future__ import annotations

import getpass
import shlex
import subprocess
import sys
from typing import IO, TYPE_CHECKING

from tasks.engine.config.sections import SECRET_KEY
from tasks.engine.deploy.secret_step import flaw, flaw_of_key
from tasks.engine.errors import UsageError

if TYPE_CHECKING:
    from tasks.engine.config.service import Secret

_MOST = 1_000_000
"""Bytes of a value: systemd takes 1 MiB of all secrets of a unit together."""


def read(secret: Secret, command: str) -> bytes:
    """Return the value; raise UsageError for none, or one that a process cannot get. No host is contacted before."""
    if command:
        value = _printed(command)
    elif sys.stdin.isatty():
        value = _typed(secret.name)
    else:
        value = sys.stdin.buffer.read(_MOST + 2)
    if not secret.file:
        # `echo`, `pass show` and editors end a line.
        value = value[:-1] if value.endswith(b"\n") else value
    _check(secret, value)
    return value


def _typed(name: str) -> bytes:
    value = getpass.getpass(f"{name}: ")
    if getpass.getpass(f"{name}, again: ") != value:
        raise _refusal(name, "the two differ, so nothing was changed", "type it again")
    return value.encode("utf-8", "surrogateescape")


def _printed(command: str) -> bytes:
    """Return what a command prints. The command may ask for a passphrase: it has our terminal and standard error."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise _refusal("--from", f"the command cannot be read: {error}", "balance its quotes") from error
    if not words:
        raise _refusal("--from", "there is no command", "--from 'pass show myapp/token'")
    try:
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            value = _bounded(process.stdout)
            if len(value) > _MOST + 1:
                process.kill()
    except OSError as error:
        why = f"{words[0]} cannot be started: {error.strerror}"
        raise _refusal("--from", why, "it is run without a shell: no pipes, no variables") from error
    if process.returncode and len(value) <= _MOST + 1:
        why = f"{words[0]} ended with status {process.returncode}, so nothing was changed"
        raise _refusal("--from", why, "run the command by hand")
    return value


def _bounded(stream: IO[bytes] | None) -> bytes:
    assert stream
    return stream.read(_MOST + 2)


def _check(secret: Secret, value: bytes) -> None:
    if value in {b"", b"\n"}:
        raise _refusal(secret.name, flaw(value), "give one; `fab secrets.unset` removes a secret")
    if secret.name == SECRET_KEY and (why := flaw_of_key(value)):
        raise _refusal(secret.name, why, f"give another one; without one, the next deploy makes {SECRET_KEY}")
    if secret.file and len(value) > _MOST:
        raise _refusal(secret.name, f"the value has more than {_MOST} bytes", "keep large data in STATE_DIRECTORY")
    if not secret.file and (why := flaw(value)):
        fix = f"let the process read a file: secrets: {{{secret.name}: file}} in service.yaml (docs/SECRETS.md)"
        raise _refusal(secret.name, why, fix)


def _refusal(where: str, why: str, way: str) -> UsageError:
    return UsageError(why, where=where, next=way)
