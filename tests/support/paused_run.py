"""A hook on the controller that stops a run before its activation until the test lets it go on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.clone import Clone


@dataclass(frozen=True)
class Gate:
    """A pipe that each run reads one byte from. end: its write end, held open so that written bytes stay."""

    end: int

    def open(self) -> None:
        """Let one run go on, now or when it arrives."""
        os.write(self.end, b".")


@contextmanager
def gated(clone: Clone, folder: Path) -> Iterator[Gate]:
    """Stop every activation of this clone at the gate for the block."""
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
