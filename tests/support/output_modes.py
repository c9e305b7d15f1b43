"""`fab` in a pipe, as JSON and on a terminal, byte for byte; and which bytes a terminal may get."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import tempfile
import threading
from dataclasses import dataclass

from tests.support.clone import Clone
from tests.support.nasty_texts import harmless

MODES = ("pipe", "json", "terminal")
# Sequences that we send to a terminal: colours, and the live screen's moves over its own lines.
_OURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\[(?:\?25[lh]|[0-9]*[AKGJH])|\r(?=\x1b|\n|$)")
# Sequences that we never send: titles, queries, a cleared screen, and the red that the tests' hosts send.
_THEIRS = re.compile(r"\x1b\]|\x1bP|\x1b\[2J|\x1b\[31mred|\x1b\[6n|\x07")


@dataclass(frozen=True)
class Shown:
    """The output. out: standard output, or the terminal; err: standard error."""

    status: int
    out: str
    err: str = ""


def show(clone: Clone, mode: str, *words: str, timeout: float = 240) -> Shown:
    """Run `fab WORDS` in this mode to its end; AssertionError for any byte that may not be shown."""
    shown = _at_terminal(clone, words, timeout) if mode == "terminal" else _to_files(clone, mode, words, timeout)
    assert not re.search("^Traceback", shown.err + shown.out, re.MULTILINE), shown.err[-2000:]
    assert shown.status in (0, 1, 2, 3), shown
    _check(shown, mode)
    return shown


def _check(shown: Shown, mode: str) -> None:
    text = shown.out
    if mode == "terminal":
        assert not _THEIRS.search(text), _THEIRS.search(text)
        text = _OURS.sub("", text.replace("\r\n", "\n"))
    bad = [line for line in (text + shown.err).split("\n") if not harmless(line)]
    assert not bad, bad[:3]
    if mode == "json" and shown.out:
        assert shown.out.isascii()
        for document in _documents(shown.out):
            assert isinstance(document, dict)
            assert document["schema"] == 1


def _documents(text: str) -> list[object]:
    """Parse one document over many lines, or one a line; reject what JSON does not have (NaN)."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    texts = [text] if text.startswith("{\n") else text.splitlines()
    return [json.loads(one, parse_constant=refuse) for one in texts]


def _to_files(clone: Clone, mode: str, words: tuple[str, ...], timeout: float) -> Shown:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        flags = ("--json",) if mode == "json" else ()
        verb, rest = words[:1], words[1:]
        with clone.start(*verb, *flags, *rest, stdout=out, stderr=err) as process:
            _wait(process, timeout)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return Shown(process.returncode, *texts)


def _at_terminal(clone: Clone, words: tuple[str, ...], timeout: float) -> Shown:
    ours, theirs = pty.openpty()
    read: list[bytes] = []

    def drain() -> None:
        try:
            while data := os.read(ours, 65536):
                read.append(data)
        except OSError:
            return  # Linux raises this when the last process has closed the other side

    with clone.start(*words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        thread = threading.Thread(target=drain)
        thread.start()
        _wait(process, timeout)
        thread.join()
    os.close(ours)
    return Shown(process.returncode, b"".join(read).decode())


def _wait(process: subprocess.Popen[str], timeout: float) -> None:
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
