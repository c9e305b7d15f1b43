"""The packages of each host are compared by themselves: none that lies ends the audit of the others."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tasks.engine.audit import advisory, findings, of_hosts
from tasks.engine.audit.export import Database
from tasks.engine.audit.findings import Package
from tasks.engine.errors import Unreachable
from tests.support.advisories import record

LOCKED = (Package("flask", "3.0", "requirements.txt:1"),)
LISTED = {
    "liar": tuple(Package(f"p{number}", "1", "liar") for number in range(of_hosts.MOST + 1)),
    "shire01": (Package("flask", "3.0", "shire01"), Package("jinja2", "3.0", "shire01")),
}
ALL = ({"introduced": "0"},)


class Asked:
    """A database that names an advisory for each package, up to a limit. asked: what it was asked for, in turn."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.asked: list[set[of_hosts.Name]] = []

    def __call__(self, packages: Iterable[of_hosts.Name]) -> Database:
        wanted = set(packages)
        self.asked.append(wanted)
        if len(wanted) > self._most:
            raise Unreachable(f"it names {len(wanted)} advisories", where="url", next="bring an export", code="none")
        names = sorted({name for name, _ in wanted})
        made = [advisory.read(record(f"A-{name}", name, *ALL), {name}) for name in names]
        return Database("url", tuple(one for one in made if one))


def found(database: Database, packages: Iterable[Package]) -> list[str]:
    return [one.names[0] for one in findings.find(packages, database.advisories, (), "2026-01-01")]


def test_a_host_with_too_many_advisories_is_named_and_hides_no_other() -> None:
    """Once: "no database of vulnerabilities was reached" was said of all hosts and of the locks."""
    asked = Asked(100)
    database, faults = of_hosts.ask(asked, LOCKED, LISTED)
    assert asked.asked[0] == {("flask", "3.0")}
    assert asked.asked[2] == {("jinja2", "3.0")}
    assert found(database, (*LOCKED, *LISTED["shire01"])) == ["A-flask", "A-jinja2"]
    assert list(faults) == ["liar"]
    error = faults["liar"]
    assert (error.exit_status, error.where, error.next) == (3, "liar", "bring an export")
    assert error.message == "the packages of this host were not compared: it names 1001 advisories"


def test_without_an_answer_for_the_locks_there_is_no_audit() -> None:
    with pytest.raises(Unreachable, match="it names 1 advisories"):
        of_hosts.ask(Asked(0), LOCKED, LISTED)


def test_packages_that_were_asked_for_are_not_asked_for_again() -> None:
    asked = Asked(100)
    of_hosts.ask(asked, LOCKED, {"a": LISTED["shire01"], "b": LISTED["shire01"]})
    assert asked.asked == [{("flask", "3.0")}, {("jinja2", "3.0")}]


def test_a_host_with_more_findings_than_a_release_has_is_an_error() -> None:
    database, faults = of_hosts.ask(Asked(9999), LOCKED, LISTED)
    assert faults == {}
    excess = of_hosts.excessive(LISTED, database)
    assert list(excess) == ["liar"]
    assert "more than 1000 known vulnerabilities" in excess["liar"].message
    assert excess["liar"].code == "too-much"
