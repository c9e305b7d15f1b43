"""The history: a line before and after each action on this host, flushed to the disk before anything goes on."""

from __future__ import annotations

import json
import os
import re

from .folders import Folder
from .locks import Lock
from .run import Run, error_text, utc_now

FILE = "history.jsonl"
_LIMIT = 1_000_000
_KEPT = 300_000
"""Bytes kept of the end of a file above the limit, and as many of older switches."""
_PLAIN = re.compile(r"[^A-Za-z0-9 .,:;()/_-]")
SWITCHED = re.compile(rb'"action":"(deploy|rollback|undo)",.*"state":"done"')
"""A line that decides where a rollback goes."""


def record(run: Run, root: Folder, action: str, release: str, state: str, why: str = "") -> None:
    """Append one line. Write it even if another process holds the file's lock for longer than 10 s."""
    line = {"time": utc_now(), "run": run.id, "action": action, "release": release, "state": state}
    line["who"] = json.loads(run.who)
    if why:
        # `why` may quote an application: keep only plain characters.
        line["why"] = _PLAIN.sub(" ", why)[:300]
    with Lock(run.step["name"], "history") as lock:
        lock.take_within(run, 10)
        size = _append(root, json.dumps(line, separators=(",", ":")).encode() + b"\n")
        # Shorten only after the action, when time does not matter.
        if state != "started" and size > _LIMIT:
            _shorten(root)


def try_record(run: Run, root: Folder, action: str, release: str, state: str, why: str = "") -> None:
    """Append one line, or warn if that fails: for actions that a full disk must not stop."""
    try:
        record(run, root, action, release, state, why)
    except OSError as error:
        run.report("warning", f"{action}, {state}: this is not in the history: {error_text(error)}")


def last(root: Folder) -> str:
    """Return the last line; empty if there is none."""
    try:
        with root.reader(FILE) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4000))
            return file.read().rstrip(b"\n").rpartition(b"\n")[2].decode("utf-8", "replace")
    except OSError:
        return ""


def _append(root: Folder, line: bytes) -> int:
    """Write the line, and return the size of the file."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(FILE, flags, 0o600, dir_fd=root.descriptor)
    try:
        size = os.fstat(descriptor).st_size
        # A power cut may have left half a line: begin a new one.
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        written = os.write(descriptor, line)
        os.fsync(descriptor)
        if written < len(line):
            raise OSError(28, "the disk is full", FILE)
        return size + written
    finally:
        os.close(descriptor)


def _shorten(root: Folder) -> None:
    """Keep the end, and of the lines before it only the switches, which a rollback needs."""
    with root.reader(FILE) as file:
        data = file.read()
    start = data.find(b"\n", len(data) - _KEPT) + 1
    switches = [line for line in data[:start].splitlines(keepends=True) if SWITCHED.search(line)]
    while sum(map(len, switches)) > _KEPT:
        del switches[: max(1, len(switches) // 10)]
    root.replace(FILE, b"".join(switches) + data[start:], 0o600, ".history-new")
    root.sync()
