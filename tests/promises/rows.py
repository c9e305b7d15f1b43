"""The promises, their cases among the tests, and the seeded choice of the cases in a short run."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pytest

SEED = 4
"""The default seed of a run."""


class Row(NamedTuple):
    """One row of the table: a promise, and a fault."""

    promise: str
    fault: str


def rows_of(item: pytest.Item) -> dict[Row, int | None]:
    """Return the rows of a test, each with its `part` (None: all). Raises UsageError for a wrong marker."""
    found: dict[Row, int | None] = {}
    for mark in item.iter_markers("promise"):
        part = mark.kwargs.get("part")
        words = len(mark.args) == 2 and all(isinstance(word, str) and word for word in mark.args)
        if not words or set(mark.kwargs) - {"part"} or not (part is None or (isinstance(part, int) and part >= 0)):
            raise pytest.UsageError(f'{item.nodeid}: promise("a sentence", "a fault", part=0 or more), not {mark}')
        found[Row(*mark.args)] = part
    return found


def collected(items: Iterable[pytest.Item]) -> tuple[dict[Row, list[str]], dict[Row, int]]:
    """Return each row's node ids in order, and the parts of rows that have one. Raises UsageError for two parts."""
    cases: dict[Row, list[str]] = {}
    parts: dict[Row, set[int | None]] = {}
    for item in items:
        for row, part in rows_of(item).items():
            cases.setdefault(row, []).append(item.nodeid)
            parts.setdefault(row, set()).add(part)
    for row, named in parts.items():
        if len(named) > 1:
            raise pytest.UsageError(f"{row}: its tests name different parts: {sorted(map(str, named))}")
    return cases, {row: part for row, (part,) in parts.items() if part is not None}


def further(items: Iterable[pytest.Item]) -> set[str]:
    """Return the node ids that a short run leaves out: `further` cases of a test which is among the items.

    Raises UsageError for a wrong marker.
    """
    marks = {item: item.get_closest_marker("further") for item in items}
    tests = {item.nodeid.partition("[")[0] for item, mark in marks.items() if not mark}
    found: set[str] = set()
    for item, mark in marks.items():
        if mark and (len(mark.args) != 1 or mark.kwargs or not isinstance(mark.args[0], str)):
            raise pytest.UsageError(f'{item.nodeid}: further("a test that a short run tries"), not {mark}')
        if mark and whole_name(item.nodeid, mark.args[0]) in tests:
            found.add(item.nodeid)
    return found


def whole_name(node: str, test: str) -> str:
    """Return the node id of a test that a marker names: of the same module, unless it has a path."""
    return test if "::" in test else f"{node.partition('::')[0]}::{test}"


def chosen(cases: Mapping[Row, Sequence[str]], parts: Mapping[Row, int], seed: int) -> set[str]:
    """Return the node ids of a short run: of each row its part, one from each equal stretch of its cases."""
    kept: set[str] = set()
    for row, ids in cases.items():
        stretches = min(parts.get(row, len(ids)), len(ids))
        dice = random.Random(f"{seed} {row.promise} {row.fault}")
        for number in range(stretches):
            kept.add(dice.choice(ids[number * len(ids) // stretches : (number + 1) * len(ids) // stretches]))
    return kept
