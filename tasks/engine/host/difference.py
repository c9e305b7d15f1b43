"""Compare two texts by lines, within a limit of work: a host may send one that takes hours. Pure."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable
from itertools import accumulate

SIZE = 1024 * 1024
"""Bytes of the largest file that is compared."""
LINES = 20_000
"""Lines of the longest file that is compared."""
_WORK = 2_000_000
"""Pairs of lines compared in all files of one host: some seconds."""
_TOO_LONG = ("(not compared: too large, or too different)",)


class _Spent(Exception):
    """The limit of work is used up."""


class Comparison:
    """The differences of one host's files; all of them together take no more than some seconds."""

    def __init__(self, work: int = _WORK) -> None:
        self._left = work

    def lines(self, before: bytes, after: bytes, names: tuple[str, str]) -> tuple[str, ...]:
        """Return a unified diff; one sentence instead if the files are too large, too different, or not text."""
        if max(len(before), len(after)) > SIZE:
            return _TOO_LONG
        try:
            old, new = before.decode().splitlines(), after.decode().splitlines()
        except UnicodeDecodeError:
            return ("binary files differ",)
        if max(len(old), len(new)) > LINES:
            return _TOO_LONG
        try:
            self._spend(len(old) + len(new))
            if old and new:
                _Measured(old, new, self._spend).get_matching_blocks()
        except _Spent:
            return _TOO_LONG
        return tuple(difflib.unified_diff(old, new, *names, lineterm=""))

    def _spend(self, work: int) -> None:
        self._left -= work
        if self._left < 0:
            raise _Spent


class _Measured(difflib.SequenceMatcher[str]):
    """A matcher that calls `spend`, before each search, with the number of pairs of lines that it may compare."""

    def __init__(self, old: list[str], new: list[str], spend: Callable[[int], None]) -> None:
        super().__init__(None, old, new)
        self._spend = spend
        # SequenceMatcher ignores lines that are more frequent than this.
        frequent = len(new) // 100 + 1 if len(new) >= 200 else len(new)
        times = {line: count for line, count in Counter(new).items() if count <= frequent}
        self._pairs = [0, *accumulate(1 + times.get(line, 0) for line in old)]

    def find_longest_match(
        self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None
    ) -> difflib.Match:
        """See SequenceMatcher."""
        self._spend(self._pairs[-1 if ahi is None else ahi] - self._pairs[alo])
        return super().find_longest_match(alo, ahi, blo, bhi)
