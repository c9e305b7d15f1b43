"""Fetch the data of a service as an archive, and put one back, by run.sock: as the service's user, in its sandbox."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.engine import quote
from tasks.engine.backup import archive, encryption
from tasks.engine.errors import LoopError
from tasks.engine.fleet import one_off
from tasks.engine.fleet.member import Member
from tasks.engine.host import layout, templates
from tasks.engine.host.steps import Command

_IF_THERE = '[ ! -e "$1" ] || exec "$1"'
_SAID = 4096
"""Bytes of standard error that are kept: its end has the reason."""


def fetch(
    member: Member, folder: Path, moment: datetime, limit: int, recipient: Any = None
) -> tuple[Path, archive.About]:
    """Fetch an archive into the folder, verify it, and return its path: it has that name only if it is whole.

    limit: bytes that it may have, packed and unpacked; recipient: key to encrypt it for. Raises LoopError.
    """
    name, host = member.service.name, member.host.name
    folder.mkdir(0o700, parents=True, exist_ok=True)
    target = folder / f"{name}-{moment:%Y%m%dT%H%M%SZ}.tar.gz"
    part = target.with_name(f".{target.name}.part")
    sealed = part.with_suffix(encryption.SUFFIX)
    about = {"format": 1, "service": name, "host": host, "time": f"{moment:%Y-%m-%dT%H:%M:%SZ}"}
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            _run(member, "write", {"about": about, "command": _words(member, "command")}, _into(file, limit, host))
            file.flush()
            os.fsync(file.fileno())
        found = archive.read(part, limit)
        if (found.service, found.host) != (name, host):
            raise archive.Damaged("it says that it is from another service")
        if recipient is not None:
            target = target.with_name(f"{target.name}{encryption.SUFFIX}")
            encryption.encrypt(part, sealed, recipient)
            sealed.replace(part)
        part.rename(target)
    except archive.Damaged as error:
        message = f"the archive that the host has sent is not whole: {quote.terminal(str(error))}"
        raise LoopError(message, where=host, next="run it again; see fab logs for what the service says") from None
    except OSError as error:
        raise LoopError(f"{part} cannot be written: {error.strerror}", where=host, next="make room for it") from None
    finally:
        part.unlink(missing_ok=True)
        sealed.unlink(missing_ok=True)
    return target, found


def put_back(member: Member, path: Path) -> None:
    """Put an archive, which is verified, in the place of the data.

    Raises LoopError. The files are as they were then, and so is the database, unless `backup.restore` itself failed.
    """
    with path.open("rb") as file:
        _run(member, "restore", {"command": _words(member, "restore")}, lambda _data: None, file.fileno())


def migrate(member: Member) -> None:
    """Run the committed release's before_activate, if it has one: older data may need it. Raises LoopError."""
    hook = f"{layout.root(member.service)}/current/release/run/hook"
    _finish(member, Command(("sh", "-c", _IF_THERE, "sh", hook), "web", ""), lambda _data: None, None)


def _words(member: Member, key: str) -> list[str]:
    given = getattr(member.service.backup, key, None)
    return shlex.split(given) if given else []


def _into(file: Any, limit: int, host: str) -> Callable[[bytes], None]:
    """Return what writes into the file, up to a limit."""
    written = 0

    def write(data: bytes) -> None:
        nonlocal written
        written += len(data)
        if written > limit:
            message = f"the archive has more than {limit} bytes"
            raise LoopError(message, where=host, next="if that is right, raise the limit: --limit 50G")
        file.write(data)

    return write


def _run(
    member: Member, mode: str, request: dict[str, object], take: Callable[[bytes], None], source: int | None = None
) -> None:
    program = templates.text("state_archive.py")
    argv = ("python3", "-I", "-S", "-c", program, mode, json.dumps(request))
    _finish(member, Command(argv, "web", ""), take, source)


def _finish(member: Member, command: Command, take: Callable[[bytes], None], source: int | None) -> None:
    """Run the command to its end; LoopError, with what it has said last, unless it succeeds."""
    said = b""

    def show(word: str, data: bytes) -> None:
        nonlocal said
        if word == "stdout":
            take(data)
        else:
            said = (said + data)[-_SAID:]

    status = one_off.run(member, one_off.Request(command, None, show, feeds=False, source=source))
    if status:
        lines = tuple(map(quote.terminal, said.decode("utf-8", "replace").splitlines()[-5:]))
        message = f"{lines[-1] if lines else 'the command said nothing'} (status {status})"
        raise LoopError(message, where=member.host.name, next="mend that on the host", detail=lines[:-1])
