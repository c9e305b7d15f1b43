from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.app.parameters import Choice, Number, ParameterError, Text

PATH = Text("a path", pattern=r"/[A-Za-z0-9._/-]*")
WORD = Text("a word", pattern=r"\w+", longest=8)
ANY = Text("anything", pattern="(?s).*")
COUNT = Number("how many", least=-2, most=10)
UNIT = Choice("a unit", values=("1", "1K"))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("parameter", "value", "argument"),
    [
        (PATH, "/", "/"),
        (PATH, "/var/lib-x/..", "/var/lib-x/.."),
        (WORD, "x" * 8, "x" * 8),
        (ANY, "\n $(id)\U0001f600", "\n $(id)\U0001f600"),
        (COUNT, -2, "-2"),
        (COUNT, 10, "10"),
        (UNIT, "1K", "1K"),
    ],
)
def test_an_allowed_value_becomes_an_argument(parameter: Text | Number | Choice, value: object, argument: str) -> None:
    assert parameter.argument(value) == argument


@pytest.mark.parametrize(
    ("parameter", "value", "reason"),
    [
        (PATH, 7, "must be a string"),
        (PATH, None, "must be a string"),
        (PATH, ["/"], "must be a string"),
        (PATH, "", "must match"),
        (PATH, "var", "must match"),
        (PATH, "/a b", "must match"),
        (PATH, "/a\n", "must match"),
        (PATH, "/a\x00", "must not contain NUL"),
        (ANY, "a\x00", "must not contain NUL"),
        (ANY, "\ud800", "must not contain NUL or a lone surrogate"),
        (ANY, "a\udcff", "must not contain NUL or a lone surrogate"),
        (PATH, "/ä", "must match"),
        (PATH, "/$(id)", "must match"),
        (PATH, "-rf", "must not begin with a dash"),
        (PATH, "/" * 256, "must have at most 255 characters"),
        (WORD, "wörd", "must match"),
        (WORD, "x" * 9, "must have at most 8 characters"),
        (COUNT, "3", "must be a whole number"),
        (COUNT, True, "must be a whole number"),
        (COUNT, 3.0, "must be a whole number"),
        (COUNT, float("nan"), "must be a whole number"),
        (COUNT, -3, "must be from -2 to 10"),
        (COUNT, 11, "must be from -2 to 10"),
        (COUNT, 10**400, "must be from -2 to 10"),
        (UNIT, "1k", "must be one of 1, 1K"),
        (UNIT, 1, "must be one of 1, 1K"),
        (UNIT, {"1": "1"}, "must be one of 1, 1K"),
    ],
)
def test_any_other_value_is_refused_in_words(parameter: Text | Number | Choice, value: object, reason: str) -> None:
    with pytest.raises(ParameterError, match=f"^{re.escape(reason)}"):
        parameter.argument(value)


def test_a_dash_is_refused_even_where_the_pattern_allows_it() -> None:
    with pytest.raises(ParameterError, match="dash"):
        ANY.argument("--delete")


@settings(deadline=None)
@given(JSON | st.from_regex(PATH.pattern) | st.from_regex(PATH.pattern, fullmatch=True))
def test_whatever_comes_is_refused_or_harmless(value: Any) -> None:
    for parameter in (PATH, WORD, UNIT):
        try:
            argument = parameter.argument(value)
        except ParameterError:
            continue
        assert argument == value
        assert not argument.startswith("-")
        assert not set(argument) & set("\x00\n $`;&|<>'\"\\")


@settings(deadline=None)
@given(JSON | st.text(st.characters()) | st.integers(-4, 12))
def test_whatever_is_let_through_can_be_an_argument_of_a_program(value: Any) -> None:
    for parameter in (ANY, COUNT):
        try:
            argument = parameter.argument(value)
        except ParameterError:
            continue
        assert argument == str(value)
        assert b"\0" not in argument.encode()
