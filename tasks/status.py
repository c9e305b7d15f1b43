"""status, releases, health, history: the state of the hosts, and what was done there."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from tasks.engine.errors import UsageError
from tasks.executor import verb

if TYPE_CHECKING:
    from tasks.engine.fleet.member import Member


@verb(
    watch="repeat until interrupted; on a terminal, in place",
    every="seconds between two looks of --watch",
)
def status(c: Any, watch: bool = False, every: str = "5", json: bool = False) -> None:
    """Show the fleet at a glance.

    Shows release, age, health, workers, memory, disk, certificate, and the last
    action with its author.
    """
    from tasks import runner
    from tasks.engine.diagnose import status
    from tasks.engine.report import output

    seconds, writer = _seconds(every), output.out()
    if watch and not json and output.draws(sys.stdout, os.environ):
        _watch_in_place(c, seconds)
    while True:
        members, found = _look(c)
        hosts = found["hosts"]
        if json:
            writer.raw(output.encoded(found, indent=None if watch else 2))
        else:
            for text in [*output.table(status.table(hosts, _width())), *status.notes(hosts), *([""] if watch else [])]:
                writer.line(text)
        if not watch or writer.closed:
            break
        time.sleep(seconds)
    if not watch:
        runner.leave(members, bad=any(one["reachable"] and not _is_well(one) for one in hosts))


def _seconds(every: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}([.][0-9]{1,3})?", every) or float(every) < 0.1:
        raise UsageError(f"--every takes seconds, not {every!r}", where="--every", next="fab status --watch --every 5")
    return float(every)


def _watch_in_place(c: Any, seconds: float) -> NoReturn:
    """Draw the status on a terminal until interrupted. If there are more hosts than rows, those in trouble stay."""
    from rich.text import Text

    from tasks.engine.diagnose import status
    from tasks.engine.quote import terminal
    from tasks.engine.report import live, output

    console = live.console()
    size = console.size
    with live.Picture(console=console, auto_refresh=False) as picture:
        while True:
            hosts = _look(c)[1]["hosts"]
            notes = "\n".join([*map(terminal, status.notes(hosts)), ""])
            # Besides the hosts and notes: the headings and the time. The empty line is for a prompt, after Ctrl-C.
            room = max(console.height // 2, console.height - len(console.render_lines(Text(notes))) - 2)
            shown = live.fitting(hosts, room, _is_well)
            table = "\n".join(output.table(status.table(shown, console.width)))
            hidden = f"  {len(hosts) - len(shown)} of {len(hosts)} hosts not shown" if len(shown) < len(hosts) else ""
            if console.size != size:
                # The terminal has wrapped the former look anew, so it cannot be replaced line by line.
                size = console.size
                console.clear()
            picture.update(Text(f"{table}\n{datetime.now():%H:%M:%S}{hidden}\n{notes}"), refresh=True)
            time.sleep(seconds)


def _look(c: Any) -> tuple[list[Member], dict[str, Any]]:
    """Ask all hosts; return the members, and their status as a document."""
    from tasks import runner
    from tasks.engine.diagnose import status
    from tasks.engine.host import questions

    project, members = runner.open_fleet(c, early=True)

    def look(member: Member) -> dict[str, Any]:
        line = status.describe(member.host.name, member.service, member.ask(questions.status()))
        # Format once here: an answer that cannot be formatted is this host's error; later it would end the command.
        status.row(line)
        status.notes([line])
        return line

    answers = runner.ask(members, look)
    lines = [
        answers.get(member.host.name) or status.describe(member.host.name, member.service, None, member.error)
        for member in members
    ]
    status.mark_differing(lines)
    return members, {"inventory": str(project.inventory.path), "hosts": lines, "errors": runner.errors(members)}


def _is_well(host: Mapping[str, Any]) -> bool:
    return host["state"] in {"healthy", "probation"}


def _width() -> int | None:
    """Return the columns of the terminal; without one, of COLUMNS, or None for no limit."""
    if sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isascii() and columns.isdigit() and int(columns) else None


@verb()
def health(c: Any, json: bool = False) -> None:
    """Ask the health check of each host now.

    Asks through the slot's own socket, and through the front door. Exits with 1
    if an answer is wrong.
    """
    from tasks import runner
    from tasks.engine.diagnose import status
    from tasks.engine.host import questions

    _, members = runner.open_fleet(c, early=True)
    reported = runner.ask(members, lambda member: member.ask(questions.health()))
    answers: dict[str, dict[str, Any]] = {
        name: {"release": facts.live_release, "slot": facts.state.health.slot or "not running",
               "front": facts.state.health.front or "not asked", "processes": dict(facts.state.processes),
               "jobs": {unit: status.job_result(facts, unit) for unit in facts.survey.jobs},
               "healthy": facts.healthy}
        for name, facts in reported.items()
    }  # fmt: skip

    def lines() -> Iterator[str]:
        for name, answer in answers.items():
            down = [f"{unit} {why}" for unit, why in reported[name].down.items()]
            text = "; ".join([f"slot: {answer['slot']}", f"front door: {answer['front']}", *down])
            text = "ok" if answer["healthy"] else text
            failed = [f"{unit} failed ({why})" for unit, why in status.failed_jobs(answer["jobs"]).items()]
            yield f"{name}  {answer['release'] or 'no release'}  {'; '.join([text, *failed])}"

    hosts = [{"host": name, **answer} for name, answer in answers.items()]
    bad = any(not answer["healthy"] for answer in answers.values())
    runner.answer(members, hosts, lines(), json=json, bad=bad)


@verb()
def releases(c: Any, json: bool = False) -> None:
    """List the releases on each host.

    Marks the live release, and the one that a rollback would activate.
    """
    from tasks import runner
    from tasks.engine.diagnose import status
    from tasks.engine.host import questions
    from tasks.engine.report import output

    _, members = runner.open_fleet(c, early=True)
    answers = runner.ask(members, lambda member: status.releases(member.ask(questions.releases())))
    hosts = [{"host": name, "releases": lines} for name, lines in answers.items()]
    rows = [("host", "release", "marks", "deployed", "by", "commit")]
    for name, lines in answers.items():
        rows += [
            (name, str(row["id"]), " ".join(row["marks"]) or "-", row["deployed"] or "-", row["by"] or "-",
             str(row["commit"] or "-")[:12])
            for row in lines
        ]  # fmt: skip
    runner.answer(members, hosts, output.table(rows), json=json)


@verb(
    last="number of lines of each host",
    verify="compare the history with the host and systemd's journal; exit with 1 if they disagree",
)
def history(c: Any, last: str = "", verify: bool = False, json: bool = False) -> None:
    """Show what was done on each host, when, and by whom.

    The newest comes last. --verify checks that each action has an outcome, that
    the host has what was done last, and that systemd logged the same switches:
    the deploy account can write the history, and not the journal.
    """
    from tasks import runner
    from tasks.engine.host import history as engine
    from tasks.engine.host import questions
    from tasks.engine.report import output

    if last and not (last.isascii() and last.isdigit() and int(last)):
        raise UsageError(f"--last takes a number of lines, not {last!r}", where="--last", next="fab history --last 20")
    if int(last or 0) > engine.LONGEST:
        raise UsageError(f"--last takes {engine.LONGEST} lines at most", where="--last", next="fab history --last 1000")
    if verify:
        _verify(c, json)
        return
    _, members = runner.open_fleet(c, early=True)
    most = int(last or 0)
    question = questions.history(most or engine.SHOWN)
    answers = runner.ask(members, lambda member: engine.newest(member.ask(question).actions, most))
    hosts = [{"host": name, "actions": [row.as_dict() for row in actions]} for name, actions in answers.items()]
    rows = [("time", "host", "action", "release", "state", "by", "from")]
    rows += sorted(
        ((action.time, name, action.action, action.release or "-", action.state,
          action.who.get("git") or action.who.get("user", "-"), action.who.get("host", "-"))
         for name, actions in answers.items() for action in actions),
        key=lambda row: row[0],
    )  # fmt: skip
    runner.answer(members, hosts, output.table(rows), json=json)


def _verify(c: Any, json: bool) -> None:
    from tasks import runner
    from tasks.engine.host import history as engine
    from tasks.engine.host import journal_check, questions

    def look(member: Member) -> tuple[engine.Finding, ...]:
        facts = member.ask(questions.verification())
        by_itself = engine.verify(
            facts.actions,
            current=facts.committed_release,
            settled=facts.settled,
            busy=facts.state.holder is not None or facts.probation is not None,
            torn=facts.torn,
        )
        by_the_journal = journal_check.verify(
            facts.actions, facts.history_size, facts.logged, facts.events, facts.machine.time
        )
        return (*by_itself, *by_the_journal)

    _, members = runner.open_fleet(c, early=True)
    answers = runner.ask(members, look)
    wrong = {name: any(finding.wrong for finding in findings) for name, findings in answers.items()}

    def lines() -> Iterator[str]:
        for name, findings in answers.items():
            for finding in findings:
                yield f"{name}  {'WRONG' if finding.wrong else 'note '}  {finding.text}"
            if not wrong[name]:
                yield f"{name}  the history and the host agree"

    hosts = [{"host": name, "agrees": not wrong[name], "findings": [finding._asdict() for finding in findings]}
             for name, findings in answers.items()]  # fmt: skip
    runner.answer(members, hosts, lines(), json=json, bad=any(wrong.values()))
