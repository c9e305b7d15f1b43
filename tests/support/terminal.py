"""`fab` on a terminal: a person reads a question and types the answer."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Sequence

from tests.support.clone import Clone, Ended


def answer(clone: Clone, words: Sequence[str], question: str, reply: str, timeout: float = 60) -> Ended:
    """Run `fab WORDS` on a terminal, type `reply` once `question` has appeared; `out` has everything shown."""
    ours, theirs = pty.openpty()
    with clone.start(*words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        try:
            shown = _until(ours, question, timeout)
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
    while text is None or text.encode() not in shown:
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
