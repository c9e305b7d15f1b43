"""A test that fails while a process of its runs has failed at once."""

from __future__ import annotations

import pytest

from tests.support.ending import Ending


def test_a_block_that_fails_waits_for_no_process() -> None:
    """Once: an assertion beside `fab logs -f` that failed kept the whole suite waiting, without a word."""
    with pytest.raises(ZeroDivisionError), Ending[bytes](["sleep", "600"]) as process:
        _ = 1 / 0
    assert process.returncode == -9


def test_a_block_that_ends_waits_for_its_process() -> None:
    with Ending[bytes](["true"]) as process:
        pass
    assert process.returncode == 0
