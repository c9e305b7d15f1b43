"""Read the options of requirements.in that name package indexes. No address there may hold a password."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tasks.engine.errors import UsageError
from tasks.engine.release import requirement_lines

_OPTION = re.compile(
    r"(?<!\S)(?:(?P<default>-i|--index-url|--pypi-url)|(?P<first>--extra-index-url)|(?P<links>-f|--find-links)"
    r"|(?P<trusted>--trusted-host))(?:\s*=\s*|\s+)(?P<value>\"[^\"]*\"|'[^']*'|\S+)|(?<!\S)(?P<alone>--no-index)(?!\S)"
)
_VARIABLES = re.compile(r"(\$\{[A-Za-z0-9_]+\})+")
_KINDS = ("default", "first", "links", "trusted", "alone")


class Option(NamedTuple):
    """One option. kind: as the fields of `Indexes`; value: as it is written; folder: of its file; place: its line."""

    kind: str
    value: str
    folder: Path
    place: str


def read(source: Path) -> Iterator[Option]:
    """Yield the options of requirements.in and of the files it includes; UsageError for a password."""
    for path, data in requirement_lines.files(source):
        for number, line in requirement_lines.logical_lines(data.decode(errors="replace")):
            for found in _OPTION.finditer(line) if line.startswith("-") else ():
                place = f"{path.parent.name}/{path.name}:{number}:1"
                value = (found["value"] or "").strip("\"'")
                refuse_password(
                    value, place, "write ${INDEX_PASSWORD} in its place and set that variable on this machine"
                )
                yield Option(next(kind for kind in _KINDS if found[kind]), value, path.parent, place)


def check(source: Path) -> None:
    """Refuse a password in requirements.in, which every release carries."""
    for _ in read(source):
        pass


def refuse_password(address: str, place: str, way: str) -> None:
    """Raise UsageError if an address in a file of a release holds a password. way: where else it may stand."""
    password = user_of(address)[1]
    # A variable in the place of a password is no password; a password may have a `$`, too.
    if password and not _VARIABLES.fullmatch(password):
        raise UsageError(
            "the address of a package index holds a password, and this file is in git and goes to every host",
            where=place,
            next=f"{way}, or move the password to ~/.netrc, or the address to pip.conf; "
            "and let the index make a new password if this one was ever committed",
        )


def user_of(address: str) -> tuple[str, str]:
    """Return user and password of an address; empty texts if it has none."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "", ""
    return parts.username or "", parts.password or ""
