"""status, releases, health, history: the state of the hosts, and what was done there."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

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

    seconds = _seconds(every)
    if not watch:
        members, bad = _look(c, json, _width())
        runner.leave(members, bad=bad)
        return
    while not _look_again(c, json):
        time.sleep(seconds)


def _seconds(every: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}([.][0-9]{1,3})?", every) or float(every) < 0.1:
        raise UsageError(f"--every takes seconds, not {every!r}", where="--every", next="fab status --watch --every 5")
    return float(every)


def _look_again(c: Any, json: bool) -> bool:
    """Show the status once for --watch; return whether the reader has closed the output."""
    from tasks.engine.report import output

    writer = output.out()
    if sys.stdout.isatty() and not json:
        width = _width()
        held = io.StringIO()
        with contextlib.redirect_stdout(held):
            _look(c, json, width)
        # Go home, erase the end of each line, then all below: clearing the whole screen would flicker.
        text = held.getvalue().replace("\n", "\x1b[K\n")
        writer.raw(f"\x1b[H{text}{datetime.now():%H:%M:%S}\x1b[K\x1b[J")
    else:
        _look(c, json, _width(), line=True)
        if not json:
            writer.raw("")
    return writer.closed


def _look(c: Any, json: bool, width: int | None, *, line: bool = False) -> tuple[list[Member], bool]:
    """Ask all hosts and show their status; return the members, and whether a host that answered is in a bad state."""
    from tasks import runner
    from tasks.engine.diagnose import status
    from tasks.engine.host import questions
    from tasks.engine.report import output

    project, members = runner.open_fleet(c, early=True)

    def stand(member: Member) -> dict[str, Any]:
        line = status.describe(member.host.name, member.service, member.ask(questions.status()))
        # Format once here: an answer that cannot be formatted is this host's error; later it would end the command.
        status.row(line)
        status.notes([line])
        return line

    answers = runner.ask(members, stand)
    lines = [
        answers.get(member.host.name) or status.describe(member.host.name, member.service, None, member.error)
        for member in members
    ]
    status.mark_differing(lines)
    writer = output.out()
    if json:
        document: dict[str, object] = {"inventory": str(project.inventory.path), "hosts": lines}
        document["errors"] = runner.errors(members)
        if line:
            writer.raw(output.encoded(document))
        else:
            output.document(document)
    else:
        for text in output.table(status.table(lines, width)):
            writer.raw(text)
        for text in status.notes(lines):
            writer.line(text)
    return members, any(one["reachable"] and one["state"] not in {"healthy", "probation"} for one in lines)


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
    from tasks.engine.host import questions
    from tasks.engine.report import output

    _, members = runner.open_fleet(c, early=True)
    reported = runner.ask(members, lambda member: member.ask(questions.health()))
    answers = {
        name: {"release": facts.live, "slot": facts.state.health.slot or "not running",
               "front": facts.state.health.front or "not asked", "healthy": facts.healthy}
        for name, facts in reported.items()
    }  # fmt: skip
    if json:
        hosts = [{"host": name, **answer} for name, answer in answers.items()]
        output.document({"hosts": hosts, "errors": runner.errors(members)})
    else:
        for name, answer in answers.items():
            text = "ok" if answer["healthy"] else f"slot: {answer['slot']}; front door: {answer['front']}"
            output.out().line(f"{name}  {answer['release'] or 'no release'}  {text}")
    runner.leave(members, bad=any(not answer["healthy"] for answer in answers.values()))


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
    if json:
        hosts = [{"host": name, "releases": lines} for name, lines in answers.items()]
        output.document({"hosts": hosts, "errors": runner.errors(members)})
    else:
        rows = [("host", "release", "marks", "deployed", "by", "commit")]
        for name, lines in answers.items():
            rows += [
                (name, str(row["id"]), " ".join(row["marks"]) or "-", row["deployed"] or "-", row["by"] or "-",
                 str(row["commit"] or "-")[:12])
                for row in lines
            ]  # fmt: skip
        for line in output.table(rows):
            output.out().raw(line)
    runner.leave(members)


@verb(last="number of lines of each host", verify="compare the history with the host; exit with 1 if they disagree")
def history(c: Any, last: str = "", verify: bool = False, json: bool = False) -> None:
    """Show what was done on each host, when, and by whom.

    The newest comes last. --verify checks that each action has an outcome, and
    that the host has what was done last.
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
    answers = runner.ask(members, lambda member: member.ask(questions.history(int(last or 1000))).actions)
    if last:
        answers = {name: actions[len(actions) - min(int(last), len(actions)) :] for name, actions in answers.items()}
    if json:
        hosts = [{"host": name, "actions": [row.as_dict() for row in actions]} for name, actions in answers.items()]
        output.document({"hosts": hosts, "errors": runner.errors(members)})
    else:
        rows = [("time", "host", "action", "release", "state", "by", "from")]
        rows += sorted(
            ((action.time, name, action.action, action.release or "-", action.state,
              action.who.get("git") or action.who.get("user", "-"), action.who.get("host", "-"))
             for name, actions in answers.items() for action in actions),
            key=lambda row: row[0],
        )  # fmt: skip
        for text in output.table(rows):
            output.out().raw(text)
    runner.leave(members)


def _verify(c: Any, json: bool) -> None:
    from tasks import runner
    from tasks.engine.host import history as engine
    from tasks.engine.host import questions
    from tasks.engine.report import output

    def look(member: Member) -> tuple[engine.Finding, ...]:
        facts = member.ask(questions.history(engine.LONGEST))
        return engine.verify(
            facts.actions,
            current=facts.current,
            settled=facts.settled,
            busy=facts.state.busy is not None or facts.probation is not None,
            torn=facts.torn,
        )

    _, members = runner.open_fleet(c, early=True)
    answers = runner.ask(members, look)
    if json:
        hosts = [{"host": name, "agrees": not any(finding.wrong for finding in findings),
                  "findings": [{"wrong": finding.wrong, "text": finding.text} for finding in findings]}
                 for name, findings in answers.items()]  # fmt: skip
        output.document({"hosts": hosts, "errors": runner.errors(members)})
    else:
        for name, findings in answers.items():
            for finding in findings:
                output.out().line(f"{name}  {'WRONG' if finding.wrong else 'note '}  {finding.text}")
            if not any(finding.wrong for finding in findings):
                output.out().line(f"{name}  the history and the host agree")
    runner.leave(members, bad=any(finding.wrong for findings in answers.values() for finding in findings))
