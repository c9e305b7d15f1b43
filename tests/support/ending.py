"""A process that a failing test does not wait for."""

from __future__ import annotations

import subprocess
from types import TracebackType
from typing import AnyStr


class Ending(subprocess.Popen[AnyStr]):
    """A process that is killed if its `with` block fails: Popen waits for its end, and so hid the failure for ever."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Wait for the end of the process; kill it first if the block has failed."""
        if kind is not None:
            self.kill()
        super().__exit__(kind, error, where)
