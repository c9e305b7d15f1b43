"""A line of the regressions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Regression:
    """defect: what an operator would have met. found_by: the fault or look that showed it. test: file::function."""

    defect: str
    found_by: str
    test: str
