"""logs, exec, run, shell: read the journals, run a command on hosts or in a release, open a terminal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from tasks.executor import ended_by_interrupt, invocation, verb

if TYPE_CHECKING:
    from tasks.engine.fleet.member import Member
    from tasks.engine.host.log_entries import Wanted
    from tasks.engine.host.steps import Command
    from tasks.engine.logs.view import View


@verb(
    f="follow the journals until interrupted", n="number of lines of each host",
    since="time (UTC) of the oldest line, as journalctl takes it",
    until="time (UTC) of the newest line, as journalctl takes it",
    grep="pattern that a line must match, as journalctl takes it",
    level="lowest level to show: error, warning, info or debug",
    process="processes to show, with commas: web, or others of service.yaml", nginx="show the lines of nginx, too",
    checks="show the requests of our own health checks, too", release="release whose processes' lines to show",
)  # fmt: skip
def logs(
    c: Any, f: bool = False, n: str = "", since: str = "", until: str = "", grep: str = "", level: str = "",
    process: str = "", nginx: bool = False, checks: bool = False, release: str = "", json: bool = False,
) -> None:  # fmt: skip
    """Show the journals of all selected hosts, merged by time."""
    from tasks import runner
    from tasks.engine.host import log_entries
    from tasks.engine.logs import read
    from tasks.engine.logs.view import View
    from tasks.engine.report import output

    wanted = log_entries.wanted(
        n=n, since=since, until=until, grep=grep, level=level, process=process, nginx=nginx, follow=f,
        checks=checks, release=release,
    )  # fmt: skip
    _, members = runner.open_fleet(c)
    log_entries.check(wanted, [member.service for member in members])
    view = View([member.host.name for member in members], as_json=json)
    if f:
        _follow(members, wanted, view)
        runner.leave(members)
        return
    answers = runner.ask(members, lambda member: read.past(member, wanted))
    entries = read.merged(list(answers.values()))
    dropped = {name: past.dropped for name, past in answers.items() if past.dropped}
    if json:
        lines = [entry.as_dict() for entry in entries]
        output.document({"lines": lines, "dropped": dropped, "errors": runner.errors(members)})
    else:
        for entry in entries:
            view.show(entry)
        for name, number in dropped.items():
            output.err().line(f"{name}: {number} older lines are left out; -n, --since, --grep and --level choose")
    runner.leave(members)


def _follow(members: list[Member], wanted: Wanted, view: View) -> None:
    """Show new lines until the operator interrupts, or closes the output."""
    from tasks.engine.logs import follow

    with ended_by_interrupt():
        for item in follow.follow(members, wanted, view.reader_gone):
            view.show(item)
    if view.reader_gone():
        # The reader has closed the output: do not wait for hosts that do not answer.
        os._exit(0)


@verb(name="exec")
def execute(c: Any, json: bool = False) -> None:
    """Run a shell command on all selected hosts.

    Example: fab exec -H web -- uptime
    """
    from tasks import runner
    from tasks.engine.errors import UsageError
    from tasks.engine.fleet import remote_command
    from tasks.engine.report import output

    line = invocation(c).remainder
    if not line:
        raise UsageError("there is no command", where="--", next="fab exec -H shire01 -- uptime")
    _, members = runner.open_fleet(c, changing="exec")
    names = ", ".join(member.host.name for member in members)
    with ended_by_interrupt(f"interrupted: the command may go on on {names}\n"):
        answers = remote_command.run_all(members, line, as_json=json)
    if len(answers) == len(members) == 1 and not json:
        sys.exit(min(next(iter(answers.values())).status, 255))
    hosts = [{"host": name, **answer.as_dict()} for name, answer in answers.items()]
    lines = output.table(remote_command.rows(members, answers)) if len(members) > 1 else ()
    runner.answer(members, hosts, lines, json=json, bad=any(answer.status for answer in answers.values()))


@verb(
    process="process whose environment it gets: web, or another of service.yaml",
    release="release on the host to run it in, in place of the live one",
)
def run(c: Any, process: str = "web", release: str = "") -> None:
    """Run a command as the service, in its sandbox.

    Example: fab run -H shire01 -- flask shell
    On a terminal the command gets one. It sets the exit status of fab;
    125: it was not run.
    """
    from tasks.engine.errors import LoopError
    from tasks.engine.fleet import one_off
    from tasks.engine.host.steps import Command
    from tasks.engine.report import output

    members: list[Member] = []
    try:
        wanted = Command(invocation(c).words, process, release)
        members = _chosen(c, wanted)
        if len(members) == 1:
            terminal = one_off.terminal()
            show = one_off.show_on(sys.stdout, sys.stderr, escaped=terminal is None)
            status = one_off.run(members[0], one_off.Request(wanted, terminal, show))
        else:
            status = one_off.run_all(members, wanted)
    except LoopError as problem:
        output.error(problem, as_json=False)
        status = one_off.FAILED
    for member in members:
        if member.error:
            output.error(member.error, as_json=False)
            status = one_off.FAILED
    sys.stdout.flush()
    sys.stderr.flush()
    # A thread may still wait for our standard input.
    os._exit(status)


def _chosen(c: Any, wanted: Command) -> list[Member]:
    """Return the hosts of `fab run`: the only one there is, or those that -H names."""
    from tasks import runner
    from tasks.engine.errors import UsageError
    from tasks.engine.host.reported_names import is_release

    if not wanted.argv:
        raise UsageError("there is no command", where="--", next="fab run -H shire01 -- flask shell")
    if wanted.release and not is_release(wanted.release):
        raise UsageError(f"{wanted.release!r} is no release", where="--release", next="fab releases lists them")
    _, members = runner.open_fleet(c)
    for member in members:
        names = [process.name for process in member.service.processes]
        if wanted.process not in names:
            raise UsageError(f"{member.host.name} has no process {wanted.process!r}", where="--process",
                             next=f"name one of: {', '.join(names)}")  # fmt: skip
    if len(members) > 1 and invocation(c).hosts is None:
        names = [member.host.name for member in members]
        raise UsageError(f"a command runs on one host, unless -H names more: {', '.join(names)}", where="-H",
                         next=f"fab run -H {names[0]} -- ...")  # fmt: skip
    return members


@verb()
def shell(c: Any) -> None:
    """Open a terminal on one host.

    Example: fab shell -H shire01
    Words after `--` run there instead of a login shell. fab becomes `ssh -t`:
    what the host prints reaches your terminal as it is, not escaped.
    """
    from tasks import runner
    from tasks.engine.errors import UsageError
    from tasks.engine.fleet import shell as terminals

    _, members = runner.open_fleet(c)
    if len(members) != 1:
        names = ", ".join(member.host.name for member in members)
        raise UsageError(f"a terminal is on one host, and {len(members)} are selected: {names}", where="-H",
                         next=f"fab shell -H {members[0].host.name}")  # fmt: skip
    if not sys.stdin.isatty():
        name = members[0].host.name
        raise UsageError("there is no terminal here", where="stdin", next=f"fab exec -H {name} -- COMMAND")
    terminals.open_on(members[0], invocation(c).remainder)
