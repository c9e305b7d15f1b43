"""The refusal of a reader: its one error, and the text of that."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.engine.errors import UsageError


def refusal(read: Callable[..., object], *given: object) -> UsageError:
    """Return the usage error that this reader raises."""
    with pytest.raises(UsageError) as caught:
        read(*given)
    return caught.value


def require_error(error: UsageError, message: str = "", where: str | None = None, fix: str = "") -> None:
    """Assert these words, this place (if given), and a next step with those words."""
    assert message in error.message
    assert where is None or error.where == where
    assert fix in (error.next or "")
