"""TOML of a stranger: no text of it takes long, or ends in anything but one error."""

from __future__ import annotations

import time

import pytest

from tasks.engine.release import toml_text

LONG = 200_000
HOSTILE = {
    "a key of many parts": f"a{'.a' * LONG} = 1",
    "a header of many parts": f"[a{' . a' * LONG}]",
    "quoted parts": '"" . ' * LONG + "a = 1",
    "a long word": "a" * LONG,
    "quotes": '"' * LONG,
    "deep lists": f"a = {'[' * 5000}{']' * 5000}",
    "deep tables": f"a = {'{a.a.a.a = [' * 40}{']}' * 40}",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_is_refused_in_a_moment(text: str) -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match=r"deep|Expected|Unterminated|Invalid|Illegal|Found|key"):
        toml_text.parse(text)
    assert time.process_time() - began < 5


def test_what_projects_have_is_read() -> None:
    text = """[tool.a."b.c".d]\nx = "1.2.3"  # e.g. a.b.c\n[[tool.e]]\nf.g = {h.i = [[1], 2]}\n"""
    assert toml_text.parse(text) == {
        "tool": {"a": {"b.c": {"d": {"x": "1.2.3"}}}, "e": [{"f": {"g": {"h": {"i": [[1], 2]}}}}]}
    }
