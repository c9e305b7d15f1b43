"""Findings: one for each vulnerability of a package, whatever number of advisories and places it has."""

from __future__ import annotations

import time

import pytest

from tasks.engine.audit import advisory, findings
from tasks.engine.audit.advisory import Advisory, Affected
from tasks.engine.audit.findings import Finding, Package
from tasks.engine.config.audit import Ignored
from tests.support.advisories import record

TODAY = "2026-11-30"
LOCKED = Package("flask", "3.0", "service/requirements.txt:7")


def read(*records: dict[str, object]) -> list[Advisory]:
    return [found for one in records if (found := advisory.read(one, {"flask", "jinja2"}))]


def find(*ignored: Ignored, packages: tuple[Package, ...] = (LOCKED,)) -> tuple[Finding, ...]:
    told = read(record("GHSA-1", aliases=["CVE-1"]), record("PYSEC-1", aliases=["CVE-1"]), record("GHSA-2"))
    return findings.find(packages, told, ignored, TODAY)


def test_advisories_that_share_a_name_are_one() -> None:
    assert [one.names for one in find()] == [("CVE-1", "GHSA-1", "PYSEC-1"), ("GHSA-2",)]
    chain = read(record("A", aliases=["B"]), record("C", aliases=["D"]), record("E", aliases=["B", "D"]))
    assert [one.names for one in findings.find([LOCKED], chain, (), TODAY)] == [("A", "B", "C", "D", "E")]


@pytest.mark.parametrize("linked", [False, True], ids=["apart", "in a chain"])
def test_a_database_of_thousands_about_one_package_takes_seconds(linked: bool) -> None:
    """The limit of memory allows half a million, in a file that may have come from anywhere."""
    affected = {"flask": (Affected(frozenset({"3.0"}), ()),)}
    names = [(f"A-{number}", *([f"A-{number + 1}"] if linked else [])) for number in range(20_000)]
    began = time.process_time()
    found = findings.find([LOCKED], [Advisory(one, "", affected) for one in names], (), TODAY)
    assert len(found) == (1 if linked else 20_000)
    assert time.process_time() - began < 15


def test_a_package_is_told_once_with_all_its_places_and_another_version_apart() -> None:
    packages = (LOCKED, LOCKED._replace(place="shire01"), Package("flask", "2.0", "shire02"), LOCKED,
                Package("flask", "3.1", "shire03"), Package("jinja2", "3.0", "shire03"))  # fmt: skip
    told = [(one.version, one.places) for one in find(packages=packages) if one.names == ("GHSA-2",)]
    assert told == [("2.0", ("shire02",)), ("3.0", (LOCKED.place, "shire01"))]
    assert find()[0].fixed == ("3.1",)


def test_an_ignore_by_any_name_holds_to_the_end_of_its_day() -> None:
    for name in ("CVE-1", "GHSA-1", "PYSEC-1"):
        ignore = Ignored(name, "no such file", TODAY)
        found = find(ignore)
        assert [one.ignored for one in found] == [None, ignore]
        assert found[1].names[0] == "CVE-1"
    ended = Ignored("CVE-1", "no such file", "2026-11-29")
    found = find(ended)
    assert [one.ignored for one in found] == [None, None]
    assert list(findings.idle([ended], found, TODAY)) == [
        "the ignore of CVE-1 ended on 2026-11-29, so it counts again: no such file"
    ]


def test_an_ignore_that_names_nothing_is_told() -> None:
    unknown = Ignored("CVE-9", "x", "2027-01-01")
    found = find(unknown)
    assert list(findings.idle([unknown, Ignored("GHSA-2", "x", TODAY)], found, TODAY)) == [
        "audit.ignore names CVE-9, which was not found: remove it, if all hosts were asked"
    ]
