"""Run programs of the system: by name, with an empty standard input or given bytes, with a limit of time.

No program writes to our standard output: what a program prints is returned, or reported line by line.
"""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple, cast

from .background import Background

SECONDS = 90
"""Seconds that a program may take: as long as systemd's own limit for a unit to start or stop."""
LATE = 124
"""Exit status of a program that took too long."""
verbose = False
"""True: print each program before it starts."""
DEATH = 5
"""Seconds that a program may take to end after SIGKILL."""
KEPT = 1 << 20
"""Bytes to keep of a program's output."""
tell: Callable[[str], object] = print
"""Takes each output line of a program that `run` or `Started` starts. Must not raise: the program is at work."""
_LONGEST, _LOOK = 1 << 16, 0.05
"""Bytes of an output line, and seconds between two looks at a silent program."""
_LINE = 4096
"""Bytes to keep of a line that is looked for."""
# No empty list of groups: with that, Python 3.12.0 leaves the program root's groups (CVE-2023-6507).
_NO_RIGHTS = {"user": 65534, "group": 65534, "extra_groups": (65534,), "cwd": "/"}
"""Of an account that owns nothing, as Popen takes them."""
_OVERHEAD = 64
"""Bytes of memory that a kept line takes beside its text."""


class Completed(NamedTuple):
    """The end of a program. status: 124 if it took too long, 127 if it does not exist."""

    status: int
    output: str

    @property
    def well(self) -> bool:
        """True if the program succeeded."""
        return self.status == 0


def ask(*words: str, data: bytes = b"", seconds: float = SECONDS, errors: bool = False) -> Completed:
    """Run a program to its end and return the first KEPT bytes of its output; errors: with its standard error."""
    return _asked(words, seconds, data, errors=errors)


def ask_without_rights(*words: str, seconds: float) -> Completed:
    """Run a program that another account may have written, as `ask` does; root gives it no rights."""
    try:
        return _asked(words, seconds, rights=_NO_RIGHTS if os.geteuid() == 0 else {})
    except OSError as error:
        return Completed(126, str(error))


def _asked(
    words: tuple[str, ...],
    seconds: float,
    data: bytes = b"",
    *,
    errors: bool = False,
    rights: Mapping[str, Any] | None = None,
) -> Completed:
    kept = bytearray()

    def hear(piece: bytes) -> None:
        kept.extend(piece[: KEPT - len(kept)])

    try:
        status = _listen(words, hear, seconds, data, errors=errors, rights=rights)
    except subprocess.TimeoutExpired:
        return Completed(LATE, f"{words[0]} did not end within {seconds:.0f} s")
    except FileNotFoundError:
        return Completed(127, f"there is no {words[0]}")
    return Completed(status, kept.decode("utf-8", "replace"))


def last_lines(*words: str, seconds: float, longest: int) -> tuple[list[str], bool]:
    """Run a program; return the last lines that it printed, and whether it ended in time.

    Of a line `longest` bytes are kept, of all lines KEPT.
    """
    tail = _Tail(longest)
    try:
        _listen(words, tail.hear, seconds)
    except subprocess.TimeoutExpired:
        return tail.lines(), False
    except FileNotFoundError:
        return [f"there is no {words[0]}"], True
    return tail.lines(), True


def lines_with(*words: str, wanted: Callable[[bytes], bool], seconds: float = SECONDS) -> list[str]:
    """Run a program; return the lines that are wanted, the last KEPT bytes of them, however many others it prints."""
    tail = _Tail(_LINE, wanted)
    with suppress(subprocess.TimeoutExpired, FileNotFoundError):
        _listen(words, tail.hear, seconds)
    return tail.lines()


class _EnoughError(Exception):
    """The output has what is wanted: its program may end."""


def first_line(*words: str, seconds: float, longest: int) -> str:
    """Run a program that only reads; return the first line that it prints, `longest` bytes of it, and end it then."""
    kept = bytearray()

    def hear(piece: bytes) -> None:
        kept.extend(piece[: longest - len(kept)])
        if b"\n" in kept or len(kept) >= longest:
            raise _EnoughError

    with suppress(_EnoughError, subprocess.TimeoutExpired, FileNotFoundError):
        _listen(words, hear, seconds)
    return kept.partition(b"\n")[0].decode("utf-8", "replace")


class _Tail:
    """The last lines of an output of any length. wanted: says which; None for all."""

    def __init__(self, longest: int, wanted: Callable[[bytes], bool] | None = None) -> None:
        self._longest, self._size, self._wanted = longest, 0, wanted
        self._lines: deque[bytes] = deque()
        self._line = bytearray()

    def hear(self, piece: bytes) -> None:
        """Take the next piece of the output."""
        first, *others = piece.split(b"\n")
        self._extend(first)
        for part in others:
            self._end()
            self._extend(part)

    def lines(self) -> list[str]:
        """Return the lines, without empty ones at the end."""
        self._end()
        while self._lines and not self._lines[-1]:
            self._lines.pop()
        return [line.decode("utf-8", "replace") for line in self._lines]

    def _extend(self, part: bytes) -> None:
        self._line += part[: self._longest - len(self._line)]

    def _end(self) -> None:
        if self._wanted is None or self._wanted(bytes(self._line)):
            self._lines.append(bytes(self._line))
            self._size += len(self._line) + _OVERHEAD
        self._line.clear()
        while self._size > KEPT:
            self._size -= len(self._lines.popleft()) + _OVERHEAD


def _listen(
    words: tuple[str, ...],
    hear: Callable[[bytes], object],
    seconds: float,
    data: bytes = b"",
    *,
    errors: bool = False,
    rights: Mapping[str, Any] | None = None,
) -> int:
    """Run a program to its end, pass its output on as it comes, and return its exit status; TimeoutExpired if late.

    The output takes only the memory that `hear` gives it. A program that prints more than `hear` keeps is not ended.
    rights: the account that it gets, as Popen takes it.
    """
    show(words)
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE if data else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if errors else subprocess.DEVNULL,
        **(rights or {}),
    )
    end = time.monotonic() + seconds
    if data:
        Background(lambda: _feed(cast("BinaryIO", process.stdin), data))
    with cast("BinaryIO", process.stdout) as pipe:
        try:
            for piece in _pieces(process, pipe, end):
                hear(piece)
            return process.wait(end - time.monotonic())
        finally:
            if process.poll() is None:
                process.kill()
                # One that waits for what an account has mounted (FUSE) ends only when that account lets it.
                with suppress(subprocess.TimeoutExpired):
                    process.wait(DEATH)


def _feed(stdin: BinaryIO, data: bytes) -> None:
    # The program may end without having read all.
    with suppress(BrokenPipeError), stdin:
        stdin.write(data)


def _pieces(process: subprocess.Popen[bytes], pipe: BinaryIO, end: float) -> Iterator[bytes]:
    """Yield the output until the program has ended: its children may live on and keep the pipe open."""
    while True:
        left = end - time.monotonic()
        if left <= 0:
            raise subprocess.TimeoutExpired(process.args, left)
        ended = process.poll() is not None
        if select.select([pipe], [], [], 0 if ended else min(left, _LOOK))[0]:
            piece = os.read(pipe.fileno(), _LONGEST)
            if not piece:
                return
            yield piece
        elif ended:
            return


class Started:
    """A running program. Its output, errors included, is reported while a caller waits for its end."""

    def __init__(self, *words: str, environment: Mapping[str, str] | None = None, restore_signals: bool = True) -> None:
        show(words)
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            restore_signals=restore_signals,
        )
        assert self._process.stdout is not None
        self._pipe, self._line = self._process.stdout, b""

    def ends_within(self, seconds: float) -> bool:
        """Wait for the program's end, at most `seconds`; return whether it ended."""
        end = time.monotonic() + seconds
        while self._process.poll() is None:
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._hear(min(left, _LOOK))
        # The program's children may live on and keep the pipe open: read only what is in the pipe now.
        if not self._pipe.closed:
            self._hear(0)
            self._pipe.close()
        self._cut()
        return True

    @property
    def well(self) -> bool:
        """True if the program has ended and succeeded."""
        return self._process.returncode == 0

    def kill(self) -> None:
        """Kill the program and wait for its end, but not for one that no signal ends."""
        self._process.kill()
        if not self.ends_within(DEATH):
            self._pipe.close()

    def _hear(self, seconds: float) -> None:
        """Report its next output, if any comes within `seconds`."""
        if self._pipe.closed:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        elif select.select([self._pipe], [], [], seconds)[0]:
            data = os.read(self._pipe.fileno(), _LONGEST)
            if not data:
                self._pipe.close()
            *lines, self._line = (self._line + data).split(b"\n")
            for line in lines:
                _tell(line)
            if len(self._line) > _LONGEST:
                self._cut()

    def _cut(self) -> None:
        if self._line:
            _tell(self._line)
        self._line = b""


def _tell(line: bytes) -> None:
    tell(line.decode("utf-8", "surrogateescape"))


def run(*words: str, seconds: float = SECONDS, environment: Mapping[str, str] | None = None) -> bool:
    """Run a program to its end and report its output; return whether it succeeded."""
    try:
        started = Started(*words, environment=environment)
    except FileNotFoundError:
        return False
    if not started.ends_within(seconds):
        started.kill()
    return started.well


def show(words: tuple[str, ...]) -> None:
    """Print a program that is about to start, if `verbose` is set."""
    if verbose:
        print("+", shlex.join(words), flush=True)  # noqa: T201


def systemctl(*words: str) -> bool:
    """Run systemctl; return whether it succeeded."""
    return run("systemctl", *words)


def unit_property(unit: str, name: str) -> str:
    """Return a property of a unit; empty if systemd does not answer."""
    return ask("systemctl", "show", "--no-pager", "-p", name, "--value", unit).output.strip()


def active(unit: str) -> bool:
    """Return whether a unit is active."""
    return ask("systemctl", "is-active", "-q", unit).well


def there(name: str) -> bool:
    """Return whether the host has a program of this name."""
    return bool(find(name))


def find(name: str) -> str:
    """Return the path of a program, as `command -v` prints it; empty if there is none."""
    for folder in os.environ["PATH"].split(":"):
        path = f"{folder}/{name}"
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return ""


def remove_tree(path: str) -> bool:
    """Remove everything at a path, however deep, but no link's target; return whether it is gone."""
    return run("rm", "-rf", "--", path)
