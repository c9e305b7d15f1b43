"""Compare the packages of each host by themselves: a host that lies must not end the audit of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from tasks.engine.audit import findings
from tasks.engine.audit.export import Database
from tasks.engine.audit.findings import Package
from tasks.engine.errors import LoopError, Unreachable

MOST = 1000
"""Findings that the packages of one host may have: those of real releases have some dozens."""

Name = tuple[str, str]
"""The canonical name and the version of a package."""
Ask = Callable[[Iterable[Name]], Database]
Faults = dict[str, LoopError]
"""Errors of hosts, by their names."""


def names(packages: Iterable[Package]) -> set[Name]:
    """Return the names and versions of packages."""
    return {(one.name, one.version) for one in packages}


def ask(asked: Ask, locked: Iterable[Package], listed: Mapping[str, Sequence[Package]]) -> tuple[Database, Faults]:
    """Ask for the advisories of the locks, then for those of each host; return the errors of hosts, too.

    Raise Unreachable if there is no answer for the locks. listed: the packages of each host
    """
    known, faults = names(locked), Faults()
    database = asked(known)
    for host, packages in listed.items():
        new = names(packages) - known
        try:
            more = asked(new) if new else database._replace(advisories=())
        except Unreachable as error:
            faults[host] = Unreachable(
                f"the packages of this host were not compared: {error.message}", where=host, next=error.next,
                code=error.code,
            )  # fmt: skip
            continue
        known |= new
        database = database._replace(advisories=(*database.advisories, *more.advisories))
    return database, faults


def excessive(listed: Mapping[str, Sequence[Package]], database: Database) -> Faults:
    """Return an error for each host with more findings than any real release has."""
    return {
        host: LoopError(
            f"the packages that this host lists have more than {MOST} known vulnerabilities, as no release has",
            where=host,
            next=f"look at the host by hand: fab shell -H {host}",
            code="too-much",
        )
        for host, packages in listed.items()
        if len(findings.find(packages, database.advisories, (), "")) > MOST
    }
