"""Read what is to be done from standard input, do it, and report how it ended."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from . import drift, remove, setup
from .run import Interrupted, Run, Stopped

STEPS: Mapping[str, Callable[[Run], None]] = {
    "setup": setup.perform,
    "remove": remove.perform,
    "drift": drift.perform,
}


def main(head: tuple[str, str, str, str], stream: BinaryIO) -> int:
    """Perform one step. head: nonce, run id, who, failpoint; stream: the step's length, the step, then the payload."""
    # What programs complain about keeps its place among our own lines.
    os.dup2(1, 2)
    os.umask(0o022)
    step: dict[str, Any] = json.loads(stream.read(int(stream.readline())))
    run = Run(head, step, stream)
    run.listen()
    try:
        STEPS[step["step"]](run)
        run.mark("end", "ok")
    except Interrupted:
        return 129
    except Stopped as stopped:
        run.leave()
        run.mark(stopped.word, stopped.text)
        return stopped.status
    except OSError as error:
        run.leave()
        place = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        run.mark("refused", f"{place}{error.strerror or error}")
        return 1
    except Exception as error:
        run.leave()
        traceback.print_exc()
        run.mark("refused", f"the host's program failed: {type(error).__name__}: {error}")
        return 1
    return 0


def start() -> None:
    """Entry point of what the loader has imported: the four lines of the run come first."""
    # Whatever the login or sudo has set: these are found, and speak English.
    os.environ.update({"LC_ALL": "C", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
    stream = sys.stdin.buffer
    nonce, run, who, failpoint = (stream.readline().decode().rstrip("\n") for _ in range(4))
    status = main((nonce, run, who, failpoint), stream)
    # Nothing is left to close, and taking the interpreter apart takes time that a person waits for.
    os._exit(status)
