"""status, releases, health, history: what is, and what was done."""

from __future__ import annotations

from typing import Any

from tasks.program import verb


@verb()
def status(c: Any, json: bool = False) -> None:
    """Show the fleet at a glance: release, slot, health, memory, disk, certificate, last action."""
    from tasks import fleet
    from tasks.engine import report, standing
    from tasks.engine.scripts import Question

    project, members = fleet.open_fleet(c)
    found = fleet.ask(members, lambda member: member.ask(Question(health=True)))
    lines = [standing.of(member.host.name, member.service, found.get(member.host.name)) for member in members]
    if json:
        report.document({"inventory": str(project.inventory.path), "hosts": lines, "errors": fleet.errors(members)})
    else:
        rows = [standing.HEADINGS, *(standing.row(line) for line in lines)]
        for line in report.table(rows):
            report.out().raw(line)
        if len({line["release"] for line in lines if line["reachable"]}) > 1:
            report.out().line("the hosts do not all serve the same release")
    fleet.leave(members, bad=any(line["reachable"] and line["state"] != "healthy" for line in lines))


@verb()
def health(c: Any, json: bool = False) -> None:
    """Ask the health check now: on each host, through the slot's own socket and through the front door."""
    from tasks import fleet
    from tasks.engine import report
    from tasks.engine.scripts import Question

    _, members = fleet.open_fleet(c)
    found = fleet.ask(members, lambda member: member.ask(Question(health=True, history=0)))
    answers = {
        name: {"release": facts.current, "slot": facts.get("health.slot") or "not running",
               "front": facts.get("health.front") or "not asked", "healthy": facts.healthy}
        for name, facts in found.items()
    }  # fmt: skip
    if json:
        hosts = [{"host": name, **answer} for name, answer in answers.items()]
        report.document({"hosts": hosts, "errors": fleet.errors(members)})
    else:
        for name, answer in answers.items():
            told = "ok" if answer["healthy"] else f"slot: {answer['slot']}; front door: {answer['front']}"
            report.out().line(f"{name}  {answer['release'] or 'no release'}  {told}")
    fleet.leave(members, bad=any(not answer["healthy"] for answer in answers.values()))


@verb()
def releases(c: Any, json: bool = False) -> None:
    """List the releases on each host: the one that serves, and what a rollback would go back to."""
    from tasks import fleet
    from tasks.engine import report, standing
    from tasks.engine.scripts import Question

    _, members = fleet.open_fleet(c)
    found = fleet.ask(members, lambda member: standing.releases(member.ask(Question())))
    if json:
        hosts = [{"host": name, "releases": lines} for name, lines in found.items()]
        report.document({"hosts": hosts, "errors": fleet.errors(members)})
    else:
        rows = [("host", "release", "marks", "deployed", "by", "commit")]
        for name, lines in found.items():
            rows += [
                (name, str(one["id"]), " ".join(one["marks"]) or "-", one["deployed"] or "-", one["by"] or "-",
                 str(one["commit"] or "-")[:12])
                for one in lines
            ]  # fmt: skip
        for line in report.table(rows):
            report.out().raw(line)
    fleet.leave(members)


@verb()
def history(c: Any, json: bool = False) -> None:
    """Show what was done on each host, when, and by whom, the newest last."""
    from tasks import fleet
    from tasks.engine import report
    from tasks.engine.scripts import Question

    _, members = fleet.open_fleet(c)
    found = fleet.ask(members, lambda member: member.ask(Question(history=1000)).actions)
    if json:
        hosts = [{"host": name, "actions": [one.as_dict() for one in actions]} for name, actions in found.items()]
        report.document({"hosts": hosts, "errors": fleet.errors(members)})
    else:
        rows = [("time", "host", "action", "release", "state", "by", "from")]
        rows += sorted(
            (one.time, name, one.action, one.release or "-", one.state, one.who.get("git") or one.who.get("user", "-"),
             one.who.get("host", "-"))
            for name, actions in found.items()
            for one in actions
        )  # fmt: skip
        for line in report.table(rows):
            report.out().raw(line)
    fleet.leave(members)
