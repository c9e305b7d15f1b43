"""Plan and make the addition of a part: new files, and new lines in those that are there. It overwrites nothing."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tasks.engine import plain_file
from tasks.engine.errors import UsageError
from tasks.engine.host.difference import Comparison
from tasks.engine.parts import edits
from tasks.engine.parts.catalogue import Part

_SHOWN = 40
"""Lines of a difference that a refusal shows."""


class Addition(NamedTuple):
    """What a part changes: path from the root of the repository to content. made: new files; changed: edited ones."""

    part: Part
    made: dict[str, bytes]
    changed: dict[str, bytes]
    lines: tuple[str, ...]
    """The lines that the edits add, each as `PATH: LINE`."""

    @property
    def is_there(self) -> bool:
        """The part was added before."""
        return not (self.made or self.changed)


def plan(root: Path, part: Part) -> Addition:
    """Return what adding the part would do. UsageError for a file that is there and differs, or cannot be edited."""
    made = {}
    for name, content in part.files.items():
        path = f"service/{name}"
        there = _read(root, path)
        if there is None:
            made[path] = content
        elif there != content:
            raise _differs(path, there, content, part.name)
    before = {edits.PARTS: _text(root, edits.PARTS)}
    after = {edits.PARTS: edits.add_to_list(before[edits.PARTS], part.name)}
    if part.requirements:
        before[edits.REQUIREMENTS] = _text(root, edits.REQUIREMENTS)
        after[edits.REQUIREMENTS] = edits.add_requirements(before[edits.REQUIREMENTS], part.requirements)
    # The list comes last: it names a module that must be there.
    changed = {path: after[path].encode() for path in sorted(after, reverse=True) if after[path] != before[path]}
    lines = tuple(f"{path}: {line}" for path in changed for line in _added(before[path], after[path]))
    return Addition(part, made, changed, lines)


def make(root: Path, addition: Addition) -> None:
    """Write the files. If this is cut between two files, the same command writes the rest."""
    for path, content in addition.made.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(content)
    for path, content in addition.changed.items():
        (root / path).write_bytes(content)


def _read(root: Path, path: str) -> bytes | None:
    """Return the content of a file; None if there is none. UsageError for what is no regular file."""
    try:
        return plain_file.read(root / path, follow=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        told = error.strerror or str(error)
        raise UsageError(f"{path} cannot be read: {told}", where=path, next="move it out of the way") from None


def _text(root: Path, path: str) -> str:
    content = _read(root, path)
    if content is None:
        raise UsageError(
            f"{path} is missing: parts are for the sample service",
            where=path,
            next="git checkout it, or take over what you need from templates/parts by hand",
        )
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8", where=path, next="save it as UTF-8") from None


def _added(before: str, after: str) -> list[str]:
    return [line for line in after.splitlines() if line.strip() and line not in before.splitlines()]


def _differs(path: str, there: bytes, content: bytes, name: str) -> UsageError:
    shown = Comparison().lines(there, content, (path, f"templates/parts/{name}"))
    return UsageError(
        f"{path} is there already, and is not that of the part",
        where=path,
        next=f"move it away, or make it equal, then: fab add {name}",
        detail=shown[:_SHOWN],
    )
