"""logs, exec: what the hosts say, and what they are told."""

from __future__ import annotations

import sys
from typing import Any

from tasks.program import ended_by_interrupt, invocation, verb


@verb(f="follow", n="lines a host", grep="a pattern, as journalctl takes it")
def logs(
    c: Any, f: bool = False, n: str = "", since: str = "", until: str = "", grep: str = "", json: bool = False
) -> None:
    """Show the journals of all selected hosts, merged by time; -f follows."""
    from tasks import fleet
    from tasks.engine import journal

    _, members = fleet.open_fleet(c)
    wanted = journal.Wanted(journal.count(n), since, until, grep, follow=f)
    with ended_by_interrupt():
        journal.show(members, wanted, as_json=json)
    fleet.leave(members)


@verb(name="exec")
def execute(c: Any, json: bool = False) -> None:
    """Run a shell command on all selected hosts: fab exec -H web -- uptime."""
    from tasks import fleet
    from tasks.engine import command, report
    from tasks.engine.errors import UsageError

    line = invocation(c).remainder
    if not line:
        raise UsageError("there is no command", where="--", next="fab exec -H shire01 -- uptime")
    _, members = fleet.open_fleet(c, changing="exec")
    found = fleet.ask(members, lambda member: command.run(member, line, report.out(), as_json=json))
    if json:
        hosts = [{"host": name, **answer.as_dict()} for name, answer in found.items()]
        report.document({"hosts": hosts, "errors": fleet.errors(members)})
    elif len(members) > 1:
        rows = [("host", "exit", "seconds"), *((name, str(a.status), f"{a.seconds:.1f}") for name, a in found.items())]
        for text in report.table(rows):
            report.out().raw(text)
    if len(found) == len(members) == 1 and not json:
        sys.exit(min(next(iter(found.values())).status, 255))
    fleet.leave(members, bad=any(answer.status for answer in found.values()))
