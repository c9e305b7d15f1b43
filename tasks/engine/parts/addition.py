"""Plan and make the addition of a part: new files, and new lines in those that are there. It overwrites nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tasks.engine import plain_file
from tasks.engine.config import service, yaml_reader
from tasks.engine.config.yaml_reader import Document
from tasks.engine.errors import UsageError
from tasks.engine.host.difference import Comparison
from tasks.engine.parts import edits, service_text
from tasks.engine.parts.catalogue import Part

_SHOWN = 40
"""Lines of a difference that a refusal shows."""


class Addition(NamedTuple):
    """What a part changes: path from the root of the repository to content. made: new files; changed: edited ones."""

    part: Part
    required: tuple[Part, ...]
    """The parts that are added with it, as it requires them and they are not there."""
    made: dict[str, bytes]
    changed: dict[str, bytes]
    lines: tuple[str, ...]
    """The lines that the edits add, each as `PATH: LINE`."""

    @property
    def is_there(self) -> bool:
        """The part was added before."""
        return not (self.made or self.changed)


def plan(root: Path, parts: Sequence[Part]) -> Addition:
    """Return what adding the last of the parts would do, with those before it that the service lacks.

    UsageError for a file that is there and differs, or cannot be edited. A required part that is there is the
    owner's, however it looks now.
    """
    *before, part = parts
    there = edits.listed(_text(root, edits.PARTS))
    required = tuple(one for one in before if one.name not in there)
    made: dict[str, bytes] = {}
    texts: dict[str, str] = {}
    for one in (*required, part):
        made.update(_new_files(root, one))
        _edit(root, one, texts)
    # The list comes last: it names modules that must be there.
    was = {path: _text(root, path) for path in texts}
    changed = {path: texts[path].encode() for path in sorted(texts, reverse=True) if texts[path] != was[path]}
    lines = tuple(f"{path}: {line}" for path in changed for line in _added(was[path], texts[path]))
    return Addition(part, required, made, changed, lines)


def _new_files(root: Path, part: Part) -> dict[str, bytes]:
    made = {}
    for name, content in part.files.items():
        path = f"service/{name}"
        there = _read(root, path)
        if there is None:
            made[path] = content
        elif there != content:
            raise _differs(path, there, content, part.name)
    return made


def _edit(root: Path, part: Part, texts: dict[str, str]) -> None:
    """Make the part's edits in `texts`; read a file from the service if its text is not there yet."""

    def text(path: str) -> str:
        return texts[path] if path in texts else _text(root, path)

    if part.service:
        texts[service_text.FILE] = service_text.add(text(service_text.FILE), part.service, part.name)
        _check(root, texts[service_text.FILE].encode(), part.name)
    if part.requirements:
        texts[edits.REQUIREMENTS] = edits.add_requirements(text(edits.REQUIREMENTS), part.requirements)
    texts[edits.PARTS] = edits.add_to_list(text(edits.PARTS), part.name)


def _check(root: Path, data: bytes, name: str) -> None:
    """Refuse a service.yaml that the part makes wrong."""
    try:
        path = root / service_text.FILE
        service.describe(Document(path, data, yaml_reader.parse(data, service_text.FILE)))
    except UsageError as error:
        message = f"with the part {name}: {error.message}"
        raise UsageError(message, where=error.where, next=error.next) from None


def make(root: Path, addition: Addition) -> None:
    """Write the files, each whole or not at all. If this is cut, the same command writes the rest."""
    for path, content in addition.made.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        with _draft(root / path, content) as draft:
            # Unlike a rename, a link replaces no file that came there meanwhile.
            os.link(draft, root / path)
    for path, content in addition.changed.items():
        with _draft(root / path, content) as draft:
            shutil.copymode(root / path, draft)
            draft.replace(root / path)


@contextmanager
def _draft(target: Path, content: bytes) -> Iterator[Path]:
    """Write the content to a file beside the target, which the block puts in its place; remove the draft."""
    draft = target.with_name(f".{target.name}.added")
    try:
        draft.write_bytes(content)
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _read(root: Path, path: str) -> bytes | None:
    """Return the content of a file; None if there is none. UsageError for what is no regular file."""
    try:
        return plain_file.read(root / path, follow=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"{path} cannot be read: {reason}", where=path, next="move it out of the way") from None


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
