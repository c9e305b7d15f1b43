"""Advisories of OSV: which versions they name, by its rules, and texts that are none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.engine.audit import advisory
from tests.support.advisories import record

ZERO = {"introduced": "0"}


def has(version: str, *events: dict[str, str], **more: Any) -> bool:
    found = advisory.read(record("A-1", "flask", *events, **more), {"flask"})
    assert found
    return any(entry.has(version) for entry in found.affected["flask"])


@pytest.mark.parametrize(
    ("events", "bad", "good"),
    [
        ([ZERO], ["0", "1.0", "2!3", "0.1.dev0"], []),
        ([ZERO, {"fixed": "2.0"}], ["1.9", "2.0rc1", "1.9+local", "2.0.dev1"], ["2.0", "2.0.0", "2.0+cpu", "3"]),
        ([ZERO, {"last_affected": "2.0"}], ["2.0", "2.0.0"], ["2.0.post1", "2.0.1"]),
        ([{"introduced": "1.0"}, {"fixed": "2"}], ["1.0", "1.5"], ["0.9", "1.0rc1", "2"]),
        # Events in any order, and two branches.
        ([{"fixed": "2.5"}, {"introduced": "2"}, {"fixed": "1.5"}, ZERO], ["1", "2.4"], ["1.5", "1.9", "2.5"]),
        ([{"introduced": "1"}, {"limit": "2"}], ["1", "1.9"], ["2", "0.9"]),
        ([ZERO, {"limit": "*"}], ["9"], []),
        # A release of old times, whose version is none: it is before all others.
        ([{"introduced": "0.1dev-r1234x"}, {"fixed": "1"}], ["0.0.1"], ["1"]),
        ([ZERO, {"fixed": "x-y"}], [], ["0.0.1"]),
    ],
)
def test_the_events_of_a_range_say_what_is_affected(
    events: list[dict[str, str]], bad: list[str], good: list[str]
) -> None:
    assert [version for version in bad + good if has(version, *events)] == bad


def test_versions_may_be_listed_in_another_writing() -> None:
    affected = [{"package": {"ecosystem": "PyPI", "name": "Flask"}, "versions": ["1.0", "2.0.0", "odd release"]}]
    for version, bad in {"1.0.0": True, "2": True, "2.0+cpu": True, "1.1": False, "odd release": True}.items():
        assert has(version, affected=affected) is bad, version


def test_of_several_ranges_one_is_enough_and_commits_are_none() -> None:
    first = record("A-1", "flask", {"introduced": "1"}, {"fixed": "2"})["affected"][0]
    commits = {"type": "GIT", "repo": "https://x", "events": [ZERO, {"fixed": "f" * 40}]}
    second = {**first, "ranges": [commits, {"type": "SEMVER", "events": [{"introduced": "3.0.0"}]}]}
    assert [version for version in ("0.1", "1.1", "2.1", "3.1") if has(version, affected=[first, second])] == [
        "1.1", "3.1"
    ]  # fmt: skip


def test_the_versions_that_end_it_are_those_of_its_own_branch() -> None:
    events = [ZERO, {"fixed": "1.5"}, {"introduced": "2"}, {"fixed": "2.0.10"}, {"fixed": "2.0.9"}]
    found = advisory.read(record("A-1", "flask", *events), {"flask"})
    assert found
    assert found.affected["flask"][0].fixed("2.0.1") == ("2.0.9", "2.0.10")
    assert found.affected["flask"][0].fixed("1.9") == ()


def test_only_packages_of_pypi_by_any_writing_of_their_names_count() -> None:
    wanted = {"typing-extensions"}
    assert advisory.read(record("A-1", "Typing.Extensions"), wanted)
    other = record("A-1", "typing-extensions")
    other["affected"][0]["package"]["ecosystem"] = "npm"
    assert advisory.read(other, wanted) is None
    values: list[object] = [record("A-1"), other, {}, [], None]
    assert list(map(advisory.is_of_python, values)) == [True, *[False] * 4]


def test_a_withdrawn_one_is_none() -> None:
    assert advisory.read(record("A-1", withdrawn="2026-01-01T00:00:00Z"), {"flask"}) is None


def test_a_cve_is_its_first_name_and_a_summary_is_one_short_line() -> None:
    found = advisory.read(record("A-1", aliases=["PYSEC-1", "CVE-2"], summary="two\nlines " * 100), {"flask"})
    assert found
    assert found.names == ("CVE-2", "A-1", "PYSEC-1")
    assert (len(found.summary), found.summary[:18]) == (300, "two lines two line")


@pytest.mark.parametrize(
    "wrong",
    [
        *(None, 7, [], "x", {}, {"id": 7}),
        record("A-1", "fl/../ask"),
        record("A-1", "a" * 300),
        record("A\n1"),
        record("A-1", aliases="CVE-1"),
        record("A-1", aliases=["$(reboot)"]),
        record("A-1", summary=["x"]),
        record("A-1", affected={}),
        record("A-1", affected=["x"]),
        {**record("A-1"), "affected": [{**record("A-1")["affected"][0], "versions": [1.0]}]},
        {**record("A-1"), "affected": [{**record("A-1")["affected"][0], "ranges": ["x"]}]},
        record("A-1", "flask", {"introduced": 7}),  # type: ignore[dict-item]
    ],
)
def test_what_is_no_advisory_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        advisory.read(wrong, {"flask"})


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=9), st.sampled_from(["1." + "9" * 5000, "1!0"])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=9), inner, max_size=3)),
    max_leaves=6,
)
KEYS = ("id", "aliases", "affected", "summary", "modified", "withdrawn", "package", "ranges", "versions", "events",
        "fixed", "introduced", "ecosystem", "name")  # fmt: skip


@given(st.sampled_from(KEYS), JSON)
def test_any_value_in_any_place_is_read_or_refused(key: str, value: object) -> None:
    def put(inner: object) -> object:
        if isinstance(inner, dict):
            return {name: value if name == key else put(one) for name, one in inner.items()}
        return [put(one) for one in inner] if isinstance(inner, list) else inner

    made = put(json.loads(json.dumps(record("A-1", aliases=["CVE-1"], versions=["1"]))))
    advisory.modified(made)
    try:
        advisory.is_of_python(made)
        found = advisory.read(made, {"flask"})
    except ValueError:
        return
    for one in found.affected["flask"] if found else ():
        one.has("1.0")
        one.fixed("1.0")
