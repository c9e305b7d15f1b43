"""Read the lines of requirements files, as pip and uv do."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from tasks.engine import plain_file
from tasks.engine.errors import UsageError

_INCLUDE = re.compile(r"\s*(?:-r|-c|--requirement|--constraint)[\s=]*(\S+)")
_NAMED = re.compile(r"(?:-e\b|--editable\b)[\s=]*(\S+)|[A-Za-z0-9][A-Za-z0-9._-]*\s*(?:\[[^\]]*\]\s*)?@\s*(\S+)")
_BARE = re.compile(r"\.{1,2}(?=$|[\s;\[])|[^\s;@<>=!~-][^\s;@<>=!~]*(?:[/\\]|\.whl|\.zip|\.tar\.gz)\S*|[./~]\S*")
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|git\+")
_DISTRIBUTION = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2")


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the number and text of each requirement or option: continuation lines joined, comments left out."""
    start, parts = 0, list[str]()
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        content = re.sub(r"(^|\s)#.*", "", line).strip()
        start = start or number
        parts.append(content.removesuffix("\\").strip())
        if content.endswith("\\"):
            continue
        if joined := " ".join(filter(None, parts)):
            yield start, joined
        start, parts = 0, []


def content(path: Path) -> bytes:
    """Read a lock or a source of one; UsageError if it is not a regular file, or cannot be read."""
    try:
        data = plain_file.read(path)
        if b"\0" in data:
            raise plain_file.NotPlain(errno.EINVAL, "it has a NUL byte", str(path))
        return data
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"the file cannot be read: {reason}",
            where=place(path),
            next="put a plain file of requirements in its place",
        ) from error


def files(source: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield a requirements file and those that it includes, each with its content, without carriage returns.

    UsageError if one of them is no regular file.
    """
    waiting, seen = [source], set()
    while waiting:
        current = waiting.pop()
        # A file can include itself by more and more paths: `-r x/../requirements.in`.
        known = os.path.realpath(current)
        if known in seen or not os.path.exists(known):  # noqa: PTH110 - Path.exists raises for a name that is too long
            continue
        seen.add(known)
        data = content(current).replace(b"\r\n", b"\n")
        yield current, data
        included = map(_INCLUDE.match, data.decode(errors="replace").splitlines())
        waiting += [current.parent / match[1] for match in included if match]


def options(line: str) -> list[str]:
    """Return what comes before the options of a line, and each of them."""
    # `\s+` alone would begin anew at each space of a long run.
    return re.split(r"(?<!\s)\s+(?=--)", line)


def address(line: str) -> str | None:
    """Return the address, file or directory that a line names in place of a version; None if it names none."""
    match = _NAMED.match(line) or _BARE.match(line)
    return next(filter(None, (*match.groups(), match[0]))) if match else None


def is_directory(named: str) -> bool:
    """Return True if an address can only be that of a directory on this machine."""
    return not _REMOTE.match(named) and not named.lower().partition("#")[0].endswith(_DISTRIBUTION)


def place(path: Path) -> str:
    """Return the path relative to the checkout."""
    return f"{path.parent.name}/{path.name}"
