"""The `fab` that tests start: nothing that it prints is lost."""

from __future__ import annotations

import subprocess
import sys

from tests.support.clone import Process


def test_what_comes_with_the_line_that_a_test_reads_is_in_the_rest() -> None:
    """Once: a line that came with the one before it was lost, and a true report of a run seemed false."""
    command = [sys.executable, "-c", "print('one\\ntwo\\nthree')"]
    with Process(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "one\n"
        assert process.communicate(timeout=60) == ("two\nthree\n", None)
        assert process.stdout.closed
