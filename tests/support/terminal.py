"""`fab` on a terminal: a person reads a question and types the answer."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.clone import Clone, Ended


def answer(clone: Clone, words: Sequence[str], question: str, reply: str, timeout: float = 60) -> Ended:
    """Run `fab WORDS` on a terminal, type `reply` once `question` has appeared; `out` has everything shown."""
    return converse(clone, words, [(question, reply)], timeout)


def converse(clone: Clone, words: Sequence[str], dialogue: Sequence[tuple[str, str]], timeout: float = 60) -> Ended:
    """Run `fab WORDS` on a terminal, and type each reply once its question has appeared."""
    ours, theirs = pty.openpty()
    with clone.start(*words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        try:
            shown = ""
            for question, reply in dialogue:
                shown += _until(ours, question, timeout)
                os.write(ours, f"{reply}\n".encode())
            shown += _until(ours, None, timeout)
            process.wait(timeout)
        except (TimeoutError, subprocess.TimeoutExpired):
            process.kill()
            raise
        finally:
            os.close(ours)
    return Ended(process.returncode, shown, "")


def _until(terminal: int, text: str | None, timeout: float) -> str:
    """Read the terminal until `text` appears; without one, until every process has closed the terminal."""
    shown, deadline = b"", time.monotonic() + timeout
    while not shown or text is None or text.encode() not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError(f"{text!r} did not come; shown so far: {shown.decode(errors='replace')}")
        try:
            data = os.read(terminal, 65536)
        except OSError:  # Linux raises this when the last process has closed the other side
            break
        if not data:
            break
        shown += data
    return shown.decode(errors="replace")


@dataclass
class Watched:
    """A terminal on which `fab status --watch` runs, and everything that it has shown."""

    handle: int
    shown: str = ""

    def until(self, pattern: str, times: int = 1) -> list[int]:
        """Wait until a pattern has been shown so many times; return where each of them ends."""
        while len(ends := [found.end() for found in re.finditer(pattern, self.shown)]) < times:
            self.shown += _until(self.handle, "", 60)
        return ends

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self.handle, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def watched(clone: Clone, rows: int = 24, columns: int = 80) -> Iterator[Watched]:
    """Run `fab status --watch` on a terminal of this size; type Ctrl-C at the end."""
    ours, theirs = pty.openpty()
    terminal = Watched(ours)
    terminal.resize(rows, columns)
    words = ("status", "--watch", "--every", "0.1")
    with clone.start(*words, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        try:
            yield terminal
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        except BaseException:
            # It may be writing to the terminal, which nothing reads any more.
            process.kill()
            raise
        finally:
            os.close(ours)
    assert "Traceback" not in terminal.shown


def looks(clone: Clone, rows: int = 24, columns: int = 80, last: str = r"\n\d\d:\d\d:\d\d") -> list[str]:
    """Return what `fab status --watch` writes for the first look and for the second. last: the end of a look."""
    with watched(clone, rows, columns) as terminal:
        first, second, _ = terminal.until(last, 3)
    begin, end = terminal.shown.index("host ", first), terminal.shown.index("host ", second)
    return [terminal.shown[:begin], terminal.shown[begin:end]]
