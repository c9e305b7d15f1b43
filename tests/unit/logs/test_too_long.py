"""A line that is too long is told at its place, and hides no other."""

from __future__ import annotations

import json

import pytest

from tasks.engine.logs import read

LEFT_OUT = "(a line of more than 1 MiB is left out)"


def entry(text: str) -> bytes:
    return json.dumps({"MESSAGE": text, "__REALTIME_TIMESTAMP": "7000000", "__CURSOR": f"of {text}"}).encode()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ([entry("a"), b"@long", None, entry("b")],
         [("a", "of a"), (LEFT_OUT, "of a"), (LEFT_OUT, "of a"), ("b", "of b")]),
        ([b"@begin", b"@long", None, entry("a"), None],
         ["@begin", ("(2 lines of more than 1 MiB are left out)", "of a"), ("a", "of a"), (LEFT_OUT, "of a")]),
        ([b"@begin", b"@long", b"@end 0"], ["@begin", "@end 0", (LEFT_OUT, "")]),
    ],
    ids=["after one", "first", "alone"],
)  # fmt: skip
def test_each_is_told_with_the_place_of_its_neighbour(said: list[bytes | None], told: list[object]) -> None:
    found = list(read._dated("shire01", said))
    assert [one.decode() if isinstance(one, bytes) else (one.text, one.cursor) for one in found] == told


@pytest.mark.parametrize("last", [[], [entry("a")]], ids=["alone", "first"])
def test_millions_before_the_first_entry_are_told_at_once(last: list[bytes]) -> None:
    """Nothing looks at the limit of time once all has come."""
    said = (b"@long" for _ in range(100_000))
    assert len(list(read._dated("shire01", [*said, *last]))) == 1 + len(last)
