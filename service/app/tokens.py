"""The API tokens: a line each, `NAME ROLE UNTIL SHA256`, in the file `tokens` of the state directory.

A token has 256 random bits: there is no list of likely ones to try, so a plain hash is enough. The file is read at each
request, so all workers, of both slots, refuse a token from the moment in which it is revoked.
Where there is a secret API_TOKENS, its lines count in place of the file: one list for all hosts.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

import click
from flask import current_app
from flask.cli import AppGroup

from .settings import SettingError

SHARED = "API_TOKENS"
ROLES = ("reader", "operator", "admin")  # each may do what those before it may
LINE = re.compile(rf"([a-z][a-z0-9-]{{0,31}}) ({'|'.join(ROLES)}) (\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ) ([0-9a-f]{{64}})")

commands = AppGroup("token", help="Create, list and revoke API tokens.")


class Token(NamedTuple):
    """What is kept of a token. until: its end, in UTC; digest: its SHA-256."""

    name: str
    role: str
    until: str
    digest: str


def find(secret: str) -> Token | None:
    """Return the token with this text, unless it has expired."""
    digest = hashlib.sha256(secret.encode()).hexdigest()
    found = [token for token in _tokens() if hmac.compare_digest(token.digest, digest)]
    return found[0] if found and _time() < found[0].until else None


def check() -> None:
    """Raise SettingError if a line of API_TOKENS is none of a token. It is not shown: it may be a token itself."""
    for number, line in enumerate(os.environ.get(SHARED, "").splitlines(), start=1):
        if not LINE.fullmatch(line):
            raise SettingError(f"line {number} of {SHARED} must be NAME ROLE UNTIL SHA256")


def _tokens() -> list[Token]:
    """Return the tokens of the lines that are whole; any other line gives no access."""
    return [Token(*match.groups()) for line in _lines() if (match := LINE.fullmatch(line))]


def _lines() -> list[str]:
    if SHARED in os.environ:
        return os.environ[SHARED].splitlines()
    file = Path(current_app.config["STATE_DIRECTORY"], "tokens")
    return file.read_text("ascii", "replace").splitlines() if file.exists() else []


def _time(days: int = 0) -> str:
    return (datetime.now(timezone.utc) + timedelta(days)).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def _changed() -> Iterator[list[str]]:
    """Lock the list, yield its lines, and replace the file by what they are after the block: whole, or not at all."""
    if SHARED in os.environ:  # the operator's to change
        yield (lines := _lines())
        click.echo(f"add this line to the secret {SHARED}:\n{lines[-1]}", err=True)
        return
    folder = current_app.config["STATE_DIRECTORY"]
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lines = _lines()
        yield lines
        new = Path(folder, ".tokens.new")
        new.touch(0o600)
        with new.open("w") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        new.replace(Path(folder, "tokens"))
        os.fsync(lock)
    finally:
        os.close(lock)


@commands.command()
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True)
@click.option("--days", type=click.IntRange(1, 3650), default=90, show_default=True)
def create(name: str, role: str, days: int) -> None:
    """Print a new token, this once: only its hash is kept."""
    secret = f"{current_app.config['SERVICE']}_{secrets.token_urlsafe(32)}"
    line = " ".join(Token(name, role, _time(days), hashlib.sha256(secret.encode()).hexdigest()))
    if not LINE.fullmatch(line):
        raise click.BadParameter("up to 32 of a-z, 0-9 and -, a letter first", param_hint="NAME")
    with _changed() as lines:
        if any(other.startswith(f"{name} ") for other in lines):
            raise click.ClickException(f"there is a token {name}: revoke it, or choose another name")
        lines.append(line)
    click.echo(secret)


@commands.command("list")
def show() -> None:
    """Print name, role and end of each token."""
    for token in _tokens():
        click.echo(f"{token.name} {token.role} {token.until}{'' if _time() < token.until else ' expired'}")


@commands.command()
@click.argument("name")
def revoke(name: str) -> None:
    """Remove a token; requests with it are refused at once."""
    if SHARED in os.environ:
        raise click.ClickException(f"remove its line from the secret {SHARED}: `fab secrets.set {SHARED}`")
    with _changed() as lines:
        kept = [line for line in lines if not line.startswith(f"{name} ")]
        if kept == lines:
            raise click.ClickException(f"there is no token {name}: `flask token list` shows them")
        lines[:] = kept
