"""Summarize a service's log: structured lines as text, the end of each traceback, repetition once. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from tasks.engine import untrusted_json
from tasks.engine.host import plain_lines, reported_names

ANNOUNCED = "release "
"""The beginning of the first line of each process of a service; the ID of the release follows."""
_LINES = 20
_WIDTH = 200
_FRAMES = 2
_ENDING = 5
# Keys that the head of the line shows, or that are the same for every line.
_SHOWN = frozenset({"level", "message", "time", "service", "release", "logger", "traceback"})
# Keys whose values the message of a request's line has already.
_REQUEST = frozenset({"method", "path", "status"})
_TRACEBACK = "Traceback (most recent call last):"
_ANNOUNCED = re.compile(re.escape(ANNOUNCED) + reported_names.RELEASE)
# A line of gunicorn's own log: its plain form, or the structured one as it is shown here.
_LOGGED = r"(?:\[[^]]*\] \[\d+\] \[[A-Z]+\] |[a-z]+: )?"
_BOOT_FAILED = re.compile(_LOGGED + r"Exception in worker process")
_NO_APPLICATION = re.compile(r"Failed to find attribute '[^']*' in '[^']*'\.")
# What a worker that cannot boot leads to: gunicorn ends the other workers and itself, and systemd logs it for the unit.
_SHUTDOWN = re.compile(
    _LOGGED + r"(?:Exception in worker process|Booting worker with pid: \d+|Worker exiting \(pid: \d+\)"
    r"|Worker \(pid:\d+\) (?:exited with code [34]\.|was sent SIGTERM!)|Handling signal: \w+|Shutting down: Master"
    r"|Reason: (?:Worker failed to boot|App failed to load)\.)"
    r"|gunicorn\.errors\.HaltServer: <HaltServer '(?:Worker failed to boot|App failed to load)\.' [34]>"
    r"|During handling of the above exception, another exception occurred:"
)
_UNIT_ENDED = re.compile(
    r"\S+: (?:Main process exited, code=exited, status=[134]/\w+|Failed with result 'exit-code'\."
    r"|Deactivated successfully\.|Scheduled restart job, restart counter is at \d+\.)"
)


def summarize(journal: Sequence[str], systemd: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the lines that matter, 20 at most: the end of each traceback, and each message once for all workers.

    Each begins with its author, `app: ` or `systemd: `; a line without either is ours.
    journal: lines of the service; systemd: lines of systemd about it, of which the last follow. If a worker could
    not boot, its traceback comes last, and gunicorn's own shutdown is left out.
    """
    blocks = list(_blocks(journal))
    start = _boot_failure(blocks)
    if start is not None:
        blocks = [block for at, block in enumerate(blocks) if at < start or not _SHUTDOWN.fullmatch(block[-1])]
        systemd = [line for line in systemd if not _UNIT_ENDED.fullmatch(line)]
    ending = tuple(_cut(by_systemd(line)) for line in systemd[-_ENDING:])
    own = _own(blocks, _LINES - len(ending))
    return (*own, *ending) if start is None else (*ending, *own)


def _boot_failure(blocks: Sequence[Sequence[str]]) -> int | None:
    """Return the index at which gunicorn's report of a worker that could not boot ends; None without one."""
    for at, block in enumerate(blocks):
        if _NO_APPLICATION.fullmatch(block[0]):
            return at
        if _BOOT_FAILED.fullmatch(block[0]):
            # A structured line has its traceback in the same block.
            traceback = block if len(block) > 1 else blocks[at + 1] if at + 1 < len(blocks) else block
            return at + 1 if len(traceback) > 1 else None
    return None


def by_systemd(line: str) -> str:
    """Mark a line that systemd wrote."""
    return f"systemd: {line}"


def by_service(line: str) -> str:
    """Mark a line that a service wrote, so that it cannot pass for a line of another author."""
    return f"app: {line}"


def _own(parsed: Sequence[Sequence[str]], most: int) -> list[str]:
    """Return the lines of the service, `most` at most."""
    # Each block once, in order.
    blocks = dict.fromkeys(tuple(part for line in block for part in line.splitlines()) for block in parsed)
    lines = [line for block in blocks for line in block]
    if len(lines) > most:
        lines = [line for line in lines if not _information(line)] or lines
    shown = [_cut(by_service(line)) for line in lines]
    if len(shown) > most:
        # What went wrong first is the cause, what came last is how it ended.
        first, middle = most - 6, len(shown) - (most - 1)
        shown = [*shown[:first], f"... {middle} lines, see the journal ...", *shown[first + middle :]]
    return shown


def _information(line: str) -> bool:
    """Return whether a line, or a structured one as it is shown here, is of a level below warning."""
    return line.startswith(("info: ", "debug: ")) or plain_lines.level(line) in {"info", "debug"}


def _blocks(journal: Sequence[str]) -> Iterator[list[str]]:
    """Yield the blocks of a journal: a traceback is one, each other line another."""
    traceback: list[str] = []
    for line in journal:
        if line.startswith(_TRACEBACK):
            traceback = [line]
        elif traceback and (line.startswith(" ") or not line):
            traceback.append(line)
        elif traceback:
            yield _end_of([*traceback, line])
            traceback = []
        elif line.strip() and not _ANNOUNCED.fullmatch(line):
            yield _structured(line)
    if traceback:
        yield _end_of(traceback)


def _structured(line: str) -> list[str]:
    """Return a logger's JSON line as level, message and end of its traceback; any other line as it is."""
    try:
        record = untrusted_json.load(line)
    except ValueError:
        return [line]
    if not isinstance(record, dict) or "message" not in record:
        return [line]
    level = str(record.get("level", "info")).lower()
    traceback = str(record.get("traceback") or record.get("exc_info") or "").splitlines()
    return [f"{level}: {record['message']}", *(_end_of(traceback) if traceback else [])]


def _end_of(traceback: Sequence[str]) -> list[str]:
    """Return the last frames and the exception."""
    frames = [index for index, line in enumerate(traceback) if line.lstrip().startswith("File ")]
    start = frames[-_FRAMES] if len(frames) >= _FRAMES else 0
    return [line for line in traceback[start:] if line.strip(" ^~")]


def fields(line: str) -> dict[str, object] | None:
    """Return the object of a structured line, one with a message; None for any other line."""
    if not line.startswith("{"):
        return None
    try:
        record = untrusted_json.load(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("message"), str) else None


def level(line: str) -> str | None:
    """Return the level of a structured line as one of our four words; None without one."""
    record = fields(line)
    return None if record is None else plain_lines.LEVELS.get(str(record.get("level", "")).lower())


def format_line(line: str) -> list[str]:
    """Format a structured line as level, message and other keys, its traceback below; any other text as it is.

    Further lines of a text are indented.
    """
    record = fields(line)
    if record is None or "level" not in record:
        first, *rest = line.rstrip("\n").split("\n")
        return [first, *(f"  {part}" for part in rest)]
    text = str(record["message"])
    message_words = set(text.split())
    others = [
        f"{key}={_value(value)}"
        for key, value in record.items()
        if key not in _SHOWN and value not in ("", None) and not (key in _REQUEST and str(value) in message_words)
    ]
    head, *more = text.rstrip("\n").split("\n")
    below = [*more, *filter(None, str(record.get("traceback") or "").split("\n"))]
    return [f"{str(record['level']).upper()} {head}  {' '.join(others)}".rstrip(), *(f"  {part}" for part in below)]


def _value(value: object) -> str:
    """Format a value: one plain word as it is, any other value as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return json.dumps(text, ensure_ascii=False) if isinstance(value, str) and re.search(r'[\s"=]', text) else text


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 4] + " ..."
