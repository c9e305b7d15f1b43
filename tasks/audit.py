"""audit: the known vulnerabilities of what is locked, and of what runs where."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tasks.engine.errors import UsageError
from tasks.executor import ROOT, invocation, verb

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.engine.audit.export import Database
    from tasks.engine.audit.findings import Finding, Package
    from tasks.engine.audit.of_hosts import Faults
    from tasks.engine.config.service import Service
    from tasks.engine.fleet.member import Member

_SHOWN = 6
"""Names of an advisory, and places of a package, that a line shows; JSON has all."""


@verb(db="export of OSV, brought along: PyPI/all.zip, or JSON lines", locked="look at the locks alone, and at no host")
def audit(c: Any, db: str = "", locked: bool = False, json: bool = False) -> None:
    """Show known vulnerabilities of what is locked, and what runs.

    Asks api.osv.dev, or reads --db. Exits with 1 for a finding, with 3 if OSV
    or a host was not reached. `audit` in service.yaml ignores one for a time.
    """
    from datetime import datetime, timezone

    from tasks import runner
    from tasks.engine import plain_file
    from tasks.engine.audit import export, findings, of_hosts
    from tasks.engine.config import service
    from tasks.engine.report import output

    path = plain_file.named(db) if db else None
    if path:
        export.check(path)
    described = service.describe(service.load(ROOT / "service" / "service.yaml"))
    ignored = described.audit.ignore
    pinned = _locked(described)
    members = _fleet(c, locked=locked)
    listed, remarks = _running(members)
    database, faults = _advisories(path, pinned, listed)
    for member in members:
        member.error = faults.get(member.host.name, member.error)
    packages = [*pinned, *(one for host, found in listed.items() if host not in faults for one in found)]
    names = of_hosts.names(packages)
    today = datetime.now(timezone.utc).date().isoformat()
    found = findings.find(packages, database.advisories, ignored, today)
    remarks += findings.idle(ignored, found, today)
    if json:
        about = {"source": database.source, "advisories": database.number, "newest": database.newest or None}
        output.document({"database": about, "packages": len(names), "findings": [one.as_dict() for one in found],
                         "remarks": remarks, "errors": runner.errors(members)})  # fmt: skip
    else:
        for line in _lines(found, remarks, database, len(names)):
            output.out().line(line)
    runner.leave(members, bad=any(one.ignored is None for one in found))


def _locked(service: Service) -> list[Package]:
    """Return the packages of both locks."""
    from tasks.engine.audit import packages
    from tasks.engine.release import lockfile

    lock = lockfile.read(ROOT / "service" / "requirements.txt", service.dependencies)
    return [*packages.locked(lock, lock.path), *packages.own(ROOT)]


def _fleet(c: Any, *, locked: bool) -> list[Member]:
    """Return the selected hosts; none in a clone that has no host yet."""
    from tasks import runner
    from tasks.engine.fleet import project as projects

    named = invocation(c).hosts
    if locked and named:
        raise UsageError("--locked looks at no host, and -H names some", where="--locked", next="leave one of them out")
    inventory = projects.load(ROOT, os.environ).inventory
    if locked or (named is None and not (inventory.hosts or inventory.sandbox)):
        return []
    return runner.open_fleet(c)[1]


def _running(members: list[Member]) -> tuple[dict[str, tuple[Package, ...]], list[str]]:
    """Return the packages that run on each host, and remarks on hosts that do not tell theirs."""
    from tasks import runner
    from tasks.engine.audit import packages
    from tasks.engine.host import questions

    answers = runner.ask(members, lambda one: packages.running(one.host.name, one.ask(questions.state())))
    remarks = [remark for _, remarks in answers.values() for remark in remarks]
    return {host: listed for host, (listed, _) in answers.items()}, remarks


def _advisories(
    path: Path | None, pinned: list[Package], listed: dict[str, tuple[Package, ...]]
) -> tuple[Database, Faults]:
    """Return the advisories, and the errors of hosts whose packages cannot be compared. path: of an export."""
    from tasks.engine.audit import export, of_hosts, online

    if path:
        every = [*pinned, *(one for found in listed.values() for one in found)]
        database, faults = export.read(path, {one.name for one in every}), of_hosts.Faults()
    else:
        database, faults = of_hosts.ask(online.ask, pinned, listed)
    return database, {**faults, **of_hosts.excessive(listed, database)}


def _lines(found: Sequence[Finding], remarks: Sequence[str], database: Database, number: int) -> Iterator[str]:
    for one in found:
        first, *others = one.names
        also = f" ({_some(others)})" if others else ""
        fixed = f"fixed in {_some(one.fixed)}" if one.fixed else "no version without it is known"
        yield f"{one.package} {one.version}  {first}{also}  {fixed}"
        if one.ignored:
            yield f"    ignored until {one.ignored.until}: {one.ignored.reason}"
        yield from (f"    {text}" for text in (one.summary, f"in {_some(one.places)}") if text)
    yield from (f"note: {remark}" for remark in remarks)
    size = _count(database.number or 0, "advisory", "advisories")
    of = f", {size}, the newest of {database.newest}" if database.number else ""
    yield f"{number} packages compared with {database.source}{of}"
    counted = sum(one.ignored is None for one in found)
    some = _count(counted, "known vulnerability", "known vulnerabilities")
    yield some if counted else "no known vulnerability"


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return f"{', '.join(texts[:_SHOWN])}{more}"
