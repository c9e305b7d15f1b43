"""Values for service.yaml: put in as text, comments kept, or refused with the lines to write."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st

from tasks.engine.config import yaml_reader
from tasks.engine.config.nodes import Mapping
from tasks.engine.errors import UsageError
from tasks.engine.parts import service_text
from tests.support.clone import ROOT

SAMPLE = (ROOT / service_text.FILE).read_text()
HOOK = 'hooks: {before_activate: "flask db upgrade"}'


def wanted(text: str) -> Mapping:
    node = yaml_reader.parse(text.encode(), "part.yaml")
    assert isinstance(node, Mapping)
    return node


def added(before: str, text: str) -> str:
    return service_text.add(before, wanted(text), "x")


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        ("name: a", HOOK, f"name: a\n{HOOK}  # of the part x\n"),
        ("name: a\n# end\n", "needs: [host]", "name: a\n# end\nneeds: [host]  # of the part x\n"),
        ("name: a\r\nb: c\r\n", "d: e", "name: a\r\nb: c\r\nd: e  # of the part x\r\n"),
        (
            "env:  # ours\n  A: b  # c\n\n  # more\n\nkeep: 5\n",
            'env: {B: "1"}',
            'env:  # ours\n  A: b  # c\n  B: "1"  # of the part x\n\n  # more\n\nkeep: 5\n',
        ),
        (
            "env:\n  A: |\n    text\n    # text\n\nkeep: 5\n",
            "env: {B: c}",
            "env:\n  A: |\n    text\n    # text\n  B: c  # of the part x\n\nkeep: 5\n",
        ),
        ("env: {A: b}  # {ours}\n", "env: {B: c}", "env: {A: b, B: c}  # {ours}\n"),
        ('env: {A: "}"} # }\n', "env: {B: c}", 'env: {A: "}", B: c} # }\n'),
        ("env: {}\n", "env: {B: c}", "env: {B: c}\n"),
        ("needs: [jit] # why\n", "needs: [jit, host]", "needs: [jit, host] # why\n"),
        ("needs: []\n", "needs: [host]", "needs: [host]\n"),
        ("needs:\n- jit # why\n# end\na: b\n", "needs: [host]",
         "needs:\n- jit # why\n- host  # of the part x\n# end\na: b\n"),
        ("needs:\n  - jit\n", "needs: [host]", "needs:\n  - jit\n  - host  # of the part x\n"),
        ("processes:\n  web:\n    workers: 2\n  a:\n    command: b\nkeep: 5\n", "processes: {web: {threads: 4}}",
         "processes:\n  web:\n    workers: 2\n    threads: 4  # of the part x\n  a:\n    command: b\nkeep: 5\n"),
        ("{name: a, env: {A: b}}\n", f"{HOOK}\nenv: {{B: c}}",
         "{name: a, env: {A: b, B: c}, " + HOOK + "}\n"),
        ("env: {A: b}\n", "env: {B: 'yes', C: '', D: 'a: b', E: '7'}",
         'env: {A: b, B: "yes", C: "", D: "a: b", E: "7"}\n'),
    ],
)  # fmt: skip
def test_a_value_joins_what_is_there_and_all_else_stays(before: str, value: str, after: str) -> None:
    assert added(before, value) == after
    assert added(after, value) == after


def test_the_sample_takes_all_that_a_part_can_need() -> None:
    value = """
processes: {worker: {command: "python -m jobs", stop: 600, single: true}}
hooks: {before_activate: "flask db upgrade"}
needs: [host]
include: [app/static/dist]
env: {COLOUR: blue}
"""
    after = added(SAMPLE, value)
    new = [line for line in after.splitlines() if line not in SAMPLE.splitlines()]
    assert new == [
        '  worker: {command: "python -m jobs", stop: 600, single: true}  # of the part x',
        "  COLOUR: blue  # of the part x",
        'hooks: {before_activate: "flask db upgrade"}  # of the part x',
        "needs: [host]  # of the part x",
        "include: [app/static/dist]  # of the part x",
    ]
    assert [line for line in after.splitlines() if line not in new] == SAMPLE.splitlines()


@pytest.mark.parametrize("there", ["flask db upgrade", "sh -c 'flask db upgrade && other'"])
def test_a_hook_that_runs_the_command_has_it(there: str) -> None:
    text = f'hooks: {{before_activate: "{there}"}}\n'
    assert added(text, HOOK) == text


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("hooks: {before_activate: other}\n", ":1:26"),
        ("a: b\nhooks:\n", ":2:7"),
        ("hooks: null\n", ":1:8"),
        ("hooks: [a]\n", ":1:8"),
        ("hooks: {drain: x,}\n", ":1:8"),
        ("hooks: {\n  drain: x\n}\n", ":1:8"),
        ("hooks:\n  drain: {\n  a: b}\n", ":2:3"),
        ("", ":1:1"),
    ],
)
def test_a_shape_that_is_not_known_is_refused_with_the_lines_to_write(text: str, place: str) -> None:
    with pytest.raises(UsageError) as refused:
        added(text, f"{HOOK}\nneeds: [host]")
    assert f"service/service.yaml{place}" in str(refused.value.where)
    assert refused.value.detail == ("hooks:", '  before_activate: "flask db upgrade"', "needs: [host]")
    assert "fab add x" in str(refused.value.next)


WORDS = st.text("ab-:#{}[]'\" yn1", max_size=8)
VALUES = st.dictionaries(st.sampled_from("abcd"), WORDS, min_size=1) | st.lists(WORDS, min_size=1, unique=True)
FILES = st.dictionaries(st.sampled_from(["one", "two", "three"]), VALUES, min_size=1)


def joined(before: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    after = dict(before)
    for key, one in value.items():
        if key not in after:
            after[key] = one
        elif isinstance(one, list):
            after[key] = [*after[key], *(item for item in one if item not in after[key])]
        else:
            after[key] = {**one, **after[key]}
    return after


def clash(before: dict[str, Any], value: dict[str, Any]) -> bool:
    """Return True if a key has another kind of value, or a mapping's key another text."""
    for key, one in value.items():
        there = before.get(key, one)
        if type(there) is not type(one):
            return True
        if isinstance(one, dict) and any(there.get(name, text) != text for name, text in one.items()):
            return True
    return False


@tries(deadline=None)
@given(FILES, FILES, st.sampled_from([True, False, None]))
def test_the_file_has_all_that_it_had_and_all_that_is_wanted(
    before: dict[str, Any], value: dict[str, Any], flow: bool | None
) -> None:
    text = yaml.safe_dump(before, default_flow_style=flow, width=9999)
    if clash(before, value):
        with pytest.raises(UsageError):
            added(text, yaml.safe_dump(value))
    else:
        assert yaml.safe_load(added(text, yaml.safe_dump(value))) == joined(before, value)
