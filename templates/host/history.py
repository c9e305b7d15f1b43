"""What was done on this host, when and by whom: a line before and a line after, on the disk before anything goes on."""

from __future__ import annotations

import json
import os
import re

from .folders import Folder
from .locks import Lock
from .run import Run, told, utc_now

FILE = "history.jsonl"
_LIMIT = 1_000_000
_KEPT = 300_000
"""Bytes that are left of a file above the limit: of its end as it is, and of the switches before that."""
_PLAIN = re.compile(r"[^A-Za-z0-9 .,:;()/_-]")
_SWITCHED = re.compile(rb'"action":"(deploy|rollback)",.*"state":"done"')


def record(run: Run, root: Folder, action: str, release: str, state: str, why: str = "") -> None:
    """Append one line. Whoever holds the lock of the file for longer than 10 s does not keep it from that."""
    line = {"time": utc_now(), "run": run.id, "action": action, "release": release, "state": state}
    line["who"] = json.loads(run.who)
    if why:
        # What a host or an application said goes in as plain words.
        line["why"] = _PLAIN.sub(" ", why)[:300]
    with Lock(run.step["name"], "history") as lock:
        lock.wait(run, 10)
        size = _append(root, json.dumps(line, separators=(",", ":")).encode() + b"\n")
        # At the end of what was begun there is time to look at its size.
        if state != "started" and size > _LIMIT:
            _shorten(root)


def attempt(run: Run, root: Folder, action: str, release: str, state: str, why: str = "") -> None:
    """The same for what has to be done whatever fills the disk: a line that cannot be written is a warning."""
    try:
        record(run, root, action, release, state, why)
    except OSError as error:
        run.report("warning", f"{action}, {state}: this is not in the history: {told(error)}")


def last(root: Folder) -> str:
    """The last line; empty where there is none."""
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
        # What a power cut left half-written ends where this line begins.
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
    """Keep the end as it is, and of what came before it the switches, through which a rollback goes back."""
    with root.reader(FILE) as file:
        data = file.read()
    start = data.find(b"\n", len(data) - _KEPT) + 1
    switches = [line for line in data[:start].splitlines(keepends=True) if _SWITCHED.search(line)]
    while sum(map(len, switches)) > _KEPT:
        del switches[: max(1, len(switches) // 10)]
    root.replace(FILE, b"".join(switches) + data[start:], 0o600, ".history-new")
    root.sync()
