"""A hook on the operator's machine that holds a run up, in front of its activation, until the test lets it go on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.clone import Clone


@dataclass(frozen=True)
class Gate:
    """Who comes to it waits for one byte. end: of the pipe, held open so that what was written stays."""

    end: int

    def open(self) -> None:
        """Let one run go on, whether it is there already or still to come."""
        os.write(self.end, b".")


@contextmanager
def gated(clone: Clone, folder: Path) -> Iterator[Gate]:
    """Meanwhile every activation of this clone waits at the gate."""
    pipe, service = folder / "gate", clone.root / "service/service.yaml"
    os.mkfifo(pipe)
    before = service.read_text()
    service.write_text(f'{before}hooks: {{drain: "head -c 1 {pipe}"}}\n')
    end = os.open(pipe, os.O_RDWR)
    try:
        yield Gate(end)
    finally:
        os.close(end)
        service.write_text(before)
