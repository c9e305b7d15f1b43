"""Fetch the data of a service as an archive, and put one back, by run.sock: as the service's user, in its sandbox."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from tasks.engine import quote
from tasks.engine.backup import archive, encryption, unfinished
from tasks.engine.errors import LoopError
from tasks.engine.fleet import one_off
from tasks.engine.fleet.member import Member
from tasks.engine.host import layout, templates
from tasks.engine.host.steps import Command
from tasks.engine.parallel import Stop

SILENCE = 1800
"""Seconds of silence after which a command is given up; before_activate may take as long, as in a deploy."""
_SLOWEST = 250_000
"""Bytes a second: an archive may take as long as its limit takes at this rate, a day for 20 GiB; an hour at least."""
_IF_THERE = '[ ! -e "$1" ] || exec timeout --verbose --kill-after=60 "$2" "$1"'
_SAID = 4096
"""Bytes of standard error that are kept: its end has the reason."""


class Terms(NamedTuple):
    """The terms of a backup.

    limit: bytes that it may have, packed and unpacked; recipient: key to encrypt it for; stop: a request to stop
    warn: called for each database that is damaged and saved as it is; None if such is a failure
    """

    limit: int
    recipient: Any = None
    stop: Stop | None = None
    warn: Callable[[str], None] | None = None

    @property
    def seconds(self) -> float:
        """The longest that it may take: output alone, however slow, keeps no backup going for ever."""
        return max(3600, self.limit / _SLOWEST)


def fetch(member: Member, folder: Path, moment: datetime, terms: Terms) -> tuple[Path, archive.About]:
    """Fetch an archive into the folder, verify it, and return its path: it has that name only if it is whole.

    Raises LoopError.
    """
    limit, recipient, stop, warn = terms
    name, host = member.service.name, member.host.name
    folder.mkdir(0o700, parents=True, exist_ok=True)
    unfinished.tidy(folder)
    try:
        file, target, moment = unfinished.begin(folder, name, moment, ("", encryption.SUFFIX))
    except OSError as error:
        raise LoopError(f"{folder} cannot be written: {error.strerror}", where=host, next="make room for it") from None
    part = unfinished.part_of(target)
    sealed = part.with_suffix(encryption.SUFFIX)
    about = {"format": 1, "service": name, "host": host, "time": f"{moment:%Y-%m-%dT%H:%M:%SZ}"}
    try:
        # It stays locked until it has its name.
        with file:
            request = {"about": about, "command": _words(member, "command"), "damaged": warn is not None}
            streams = _Streams(_into(file, limit, host), stop=stop, seconds=terms.seconds)
            said = _run(member, "write", request, streams)
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
    if warn is not None:
        for line in said:
            warn(line)
    return target, found


def put_back(member: Member, path: Path, terms: Terms) -> None:
    """Put an archive, which is verified, in the place of the data.

    Raises LoopError; then the files are as they were, and so is the database, unless `backup.restore` itself failed.
    """
    with path.open("rb") as file:
        streams = _Streams(source=file.fileno(), stop=terms.stop, seconds=terms.seconds)
        _run(member, "restore", {"command": _words(member, "restore")}, streams)


def migrate(member: Member) -> None:
    """Run the committed release's before_activate, if it has one: older data may need it. Raises LoopError."""
    hook = f"{layout.root(member.service)}/current/release/run/hook"
    # A request to stop ends no hook, as in a deploy.
    command = Command(("sh", "-c", _IF_THERE, "sh", hook, str(SILENCE)), "web", "")
    _finish(member, command, _Streams(silence=SILENCE + 120, seconds=SILENCE + 180))


def _words(member: Member, key: str) -> list[str]:
    given = getattr(member.service.backup, key, None)
    return shlex.split(given) if given else []


def _into(file: Any, limit: int, host: str) -> Callable[[bytes], None]:
    """Return a function that writes into the file, up to a limit."""
    written = 0

    def write(data: bytes) -> None:
        nonlocal written
        written += len(data)
        if written > limit:
            message = f"the archive has more than {limit} bytes"
            raise LoopError(message, where=host, next="if that is right, raise the limit: --limit 50G")
        file.write(data)

    return write


class _Streams(NamedTuple):
    """The streams and limits of a command. take: gets its output; source: its input."""

    take: Callable[[bytes], None] = lambda _data: None
    source: int | None = None
    stop: Stop | None = None
    silence: float = SILENCE
    seconds: float | None = None


def _run(member: Member, mode: str, request: dict[str, object], streams: _Streams) -> tuple[str, ...]:
    program = templates.text("state_archive.py")
    argv = ("python3", "-I", "-S", "-c", program, mode, json.dumps(request))
    return _finish(member, Command(argv, "web", ""), streams)


def _finish(member: Member, command: Command, streams: _Streams) -> tuple[str, ...]:
    """Run the command to its end, and return what it has said last; LoopError, with that, unless it succeeds."""
    said = b""

    def show(word: str, data: bytes) -> None:
        nonlocal said
        if word == "stdout":
            streams.take(data)
        else:
            said = (said + data)[-_SAID:]

    request = one_off.Request(
        command,
        None,
        show,
        feeds=False,
        source=streams.source,
        silence=streams.silence,
        seconds=streams.seconds,
        stop=streams.stop,
    )
    status = one_off.run(member, request)
    # An empty line shows only that the command is alive.
    lines = tuple(quote.terminal(line) for line in said.decode("utf-8", "replace").splitlines() if line.strip())[-5:]
    if status:
        message = f"{lines[-1] if lines else 'the command said nothing'} (status {status})"
        mend = "run it again" if streams.stop else "mend that on the host"
        raise LoopError(message, where=member.host.name, next=mend, detail=lines[:-1])
    return lines
