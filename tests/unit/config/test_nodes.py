"""YAML trees: a merge keeps the place of every value, and plain data is canonical."""

from __future__ import annotations

import json

import pytest

from tasks.engine.config import yaml_reader
from tasks.engine.config.nodes import Mapping, merge, plain


@pytest.mark.parametrize(
    ("lower", "upper", "merged"),
    [
        ("{a: x, b: y}", "{b: z}", {"a": "x", "b": "z"}),
        ("{a: {b: x, c: y}}", "{a: {c: z}}", {"a": {"b": "x", "c": "z"}}),
        ("{a: {b: x}}", "{a: z}", {"a": "z"}),
        ("{a: z}", "{a: {b: x}}", {"a": {"b": "x"}}),
        ("{a: [x, y]}", "{a: [z]}", {"a": ["z"]}),
        ("{a: x}", "{a: null}", {"a": None}),
        ("{a: null}", "{a: x}", {"a": "x"}),
    ],
)
def test_mappings_merge_and_the_rest_replaces(lower: str, upper: str, merged: object) -> None:
    assert plain(merge(yaml_reader.parse(lower.encode(), "l"), yaml_reader.parse(upper.encode(), "u"))) == merged


def test_a_merged_value_keeps_its_place() -> None:
    both = merge(yaml_reader.parse(b"a: {b: 1, c: 2}", "lower"), yaml_reader.parse(b"a: {c: 3}", "upper"))
    assert isinstance(both, Mapping)
    inner = both.entries["a"]
    assert isinstance(inner, Mapping)
    assert [str(value.place) for value in inner.entries.values()] == ["lower:1:8 (a.b)", "upper:1:8 (a.c)"]
    assert str(inner.keys["c"]) == "upper:1:5 (a.c)"


def test_plain_data_does_not_depend_on_the_order_of_keys_or_on_quotes() -> None:
    first = plain(yaml_reader.parse(b"{b: x, a: {d: 2.5, c: [1, no]}}", "f"))
    second = plain(yaml_reader.parse(b"a:\n  c: [1, 'no']\n  d: 2.5\nb: 'x'\n", "f"))
    assert json.dumps(first) == json.dumps(second) == '{"a": {"c": [1, "no"], "d": 2.5}, "b": "x"}'
