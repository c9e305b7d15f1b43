"""What a reader refuses: the one error, and what it says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.engine.errors import UsageError


def refusal(read: Callable[..., object], *given: object) -> UsageError:
    """The usage error in which reading this ends."""
    with pytest.raises(UsageError) as caught:
        read(*given)
    return caught.value


def says(error: UsageError, message: str = "", where: str | None = None, fix: str = "") -> None:
    """It has these words, stands there, if that is told, and names a way on with those."""
    assert message in error.message
    assert where is None or error.where == where
    assert fix in (error.next or "")
