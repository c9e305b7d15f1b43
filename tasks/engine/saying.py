"""What a service said, made readable: structured lines as words, tracebacks by their end, repetition once. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

_LINES = 20
_WIDTH = 200
_FRAMES = 2
# Said by the line's own head, or the same for every line.
_SHOWN = frozenset({"level", "message", "time", "service", "release", "logger", "traceback"})
_TRACEBACK = "Traceback (most recent call last):"


def readable(journal: Sequence[str]) -> tuple[str, ...]:
    """The lines that matter, 20 at most: of every traceback its end, and each complaint once, however many workers."""
    blocks: list[tuple[str, ...]] = []
    for block in _blocks(journal):
        shown = tuple(_cut(line) for line in block)
        if shown not in blocks:
            blocks.append(shown)
    lines = [line for block in blocks for line in block]
    if len(lines) > _LINES:
        lines = [line for line in lines if not line.startswith(("info: ", "debug: "))]
    if len(lines) > _LINES:
        # What went wrong first is the cause, what came last is how it ended.
        middle = len(lines) - (_LINES - 1)
        lines = [*lines[:14], f"... {middle} lines, see the journal ...", *lines[14 + middle :]]
    return tuple(lines)


def _blocks(journal: Sequence[str]) -> Iterator[list[str]]:
    """Each line by itself, a traceback as one."""
    traceback: list[str] = []
    for line in journal:
        if line.startswith(_TRACEBACK):
            traceback = [line]
        elif traceback and (line.startswith(" ") or not line):
            traceback.append(line)
        elif traceback:
            yield _end_of([*traceback, line])
            traceback = []
        elif line.strip():
            yield _structured(line)
    if traceback:
        yield _end_of(traceback)


def _structured(line: str) -> list[str]:
    """A JSON line of a logger as level, message and the end of its traceback; any other line as it is."""
    try:
        found = json.loads(line)
        text = str(found["message"])
    except (ValueError, KeyError, TypeError):
        return [line]
    level = str(found.get("level", "info")).lower()
    traceback = str(found.get("traceback") or found.get("exc_info") or "").splitlines()
    return [f"{level}: {text}", *(_end_of(traceback) if traceback else [])]


def _end_of(traceback: Sequence[str]) -> list[str]:
    """The last frames and what was raised."""
    frames = [index for index, line in enumerate(traceback) if line.lstrip().startswith("File ")]
    start = frames[-_FRAMES] if len(frames) >= _FRAMES else 0
    return [line for line in traceback[start:] if line.strip(" ^~")]


def words(line: str) -> list[str]:
    """A structured line as level, message and what else it tells, a traceback below; any other line as it is."""
    try:
        found = json.loads(line)
        text = f"{str(found['level']).upper()} {found['message']}"
    except (ValueError, KeyError, TypeError):
        return [line]
    others = " ".join(f"{key}={value}" for key, value in found.items() if key not in _SHOWN and value not in ("", None))
    return [f"{text}  {others}".rstrip(), *(f"  {part}" for part in str(found.get("traceback", "")).splitlines())]


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 4] + " ..."
