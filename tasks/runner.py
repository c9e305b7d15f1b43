"""From a command line to the hosts it means."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.engine.errors import UsageError
from tasks.executor import ROOT, ended_by_interrupt, invocation, stopped_by_signals

_Answer = TypeVar("_Answer")

if TYPE_CHECKING:
    from concurrent.futures import Future

    from tasks.engine.config.inventory import Host
    from tasks.engine.config.selection import Selection
    from tasks.engine.events import Event
    from tasks.engine.fleet.member import Member
    from tasks.engine.fleet.project import Project
    from tasks.engine.parallel import Stop
    from tasks.engine.ssh.ssh_session import SshSession


_BEGAN = time.monotonic()
"""As this is loaded, a command has just begun."""

PendingSessions = dict[str, "Future[SshSession]"]
"""The connections that are being opened, by host."""


def open_fleet(
    c: Any, changing: str | None = None, user: str | None = None, *, early: bool = False
) -> tuple[Project, list[Member]]:
    """The project and a member for each selected host; nothing is contacted yet, unless `early`.

    changing: the verb that is about to change hosts, which asks first when several hosts are meant and none was named.
    early: nothing of what was given can be wrong any more, so the connections are opened while the rest is loaded;
    not for a dry run, which may need none.
    """
    _check_account(user)
    project, selection = choose(c, changing)
    pending = start_connecting(c, selection) if early and not invocation(c).dry else {}
    return project, members_of(c, project, selection, user, pending)


def _check_account(user: str | None) -> None:
    from tasks.engine import quote
    from tasks.engine.config import formats

    if user and not quote.is_account(user):
        raise UsageError(f"expected {formats.USER.expected}, found {user!r}", where="--as", next="--as root")


def choose(c: Any, changing: str | None = None, *, retry: bool = False) -> tuple[Project, Selection]:
    """The project and the hosts that are meant. retry: those that the last run left behind, in place of -H."""
    from tasks.engine.config.yaml_reader import display_path
    from tasks.engine.fleet import project as projects
    from tasks.engine.report import output

    asked = invocation(c)
    project = projects.load(ROOT, os.environ)
    expression = asked.hosts
    if retry:
        from tasks.engine.report import runs

        expression = ",".join(runs.left_behind(runs.folder(ROOT, os.environ)))
    selection = project.select(expression)
    if changing and not asked.dry:
        _confirm(changing, selection)
        names = ", ".join(host.name for host in selection.hosts)
        output.err().line(f"inventory {display_path(project.inventory.path)}: {names}")
    if changing in ("deploy", "setup"):
        for service in dict.fromkeys(project.service_of(host) for host in selection.hosts):
            if service.nginx and service.nginx.tls.mode == "files":
                from tasks.engine.host import payload

                payload.check(service.nginx.tls, ROOT)
    return project, selection


def start_connecting(c: Any, selection: Selection) -> PendingSessions:
    """Begin to connect, as long as this machine is still busy with itself."""
    from tasks.engine import parallel
    from tasks.engine.fleet import failpoints
    from tasks.engine.ssh.ssh_session import SshSession

    options = invocation(c).options
    points = {host.name: failpoints.setting(os.environ, host.name) for host in selection.hosts}

    def connect(host: Host) -> SshSession:
        failpoints.reach(points[host.name], "controller.connect", host.name)
        return SshSession(host, options)

    return {host.name: parallel.run_in_thread(partial(connect, host)) for host in selection.hosts[: parallel.LIMIT]}


def members_of(
    c: Any, project: Project, selection: Selection, user: str | None = None, pending: PendingSessions | None = None
) -> list[Member]:
    """The hosts as a run works on them."""
    from tasks.engine.fleet import failpoints
    from tasks.engine.fleet import project as projects
    from tasks.engine.fleet.member import Member

    run, options = projects.begin(ROOT), invocation(c).options
    return [
        Member(
            host,
            project.service_of(host),
            run._replace(failpoint=failpoints.setting(os.environ, host.name)),
            options,
            user or host.user,
            opening=(pending or {}).get(host.name),
            began=_BEGAN,
        )
        for host in selection.hosts
    ]


def _confirm(verb: str, selection: Selection) -> None:
    """Without -H and with several hosts: list them and ask once; without a terminal, refuse."""
    if selection.expression is not None or len(selection.hosts) < 2:
        return
    names = ", ".join(host.name for host in selection.hosts)
    if not sys.stdin.isatty():
        raise UsageError(
            f"{verb} means {len(selection.hosts)} hosts, and none was named: {names}",
            where="-H",
            next=f"fab {verb} -H all",
        )
    sys.stderr.write(f"{verb} on {len(selection.hosts)} hosts, in this order: {names}\ngo on? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise UsageError("nothing was done", where="-H", next=f"fab {verb} -H {selection.hosts[0].name}")


def ask(members: list[Member], question: Callable[[Member], _Answer]) -> dict[str, _Answer]:
    """What each host answers, asked in parallel, in order; a member that gave none carries its error."""
    from tasks.engine import misread
    from tasks.engine.errors import LoopError
    from tasks.engine.parallel import Emit, gather, pool

    found: dict[str, _Answer] = {}

    def work(member: Member) -> Callable[[Emit], None]:
        def look(_: Emit) -> None:
            try:
                with misread.as_error_of(member.host.name):
                    found[member.host.name] = question(member)
            except LoopError as error:
                error.where = error.where or member.host.name
                member.error = error
            finally:
                member.close()

        return look

    with ended_by_interrupt(), pool(len(members)) as executor:
        for _ in gather([work(member) for member in members], executor):
            pass
    return {member.host.name: found[member.host.name] for member in members if member.host.name in found}


def errors(members: list[Member]) -> list[dict[str, object]]:
    """The hosts that gave no answer, as JSON carries them."""
    return [{"host": member.host.name, **member.error.as_dict()} for member in members if member.error]


def keep_faults(members: list[Member]) -> str | None:
    """Write the traceback of every answer that was not understood into the log of the run; where that is."""
    from tasks.engine.misread import Misread
    from tasks.engine.report import runs

    faults = {one.host.name: one.error.trace for one in members if isinstance(one.error, Misread)}
    return runs.keep_faults(runs.folder(ROOT, os.environ), members[0].run.id, faults) if faults else None


def leave(members: list[Member], *, bad: bool = False) -> None:
    """Show the errors of a query, and leave: 1 when something is wrong, else with the status of the errors."""
    from tasks.engine.errors import exit_status
    from tasks.engine.report import output

    problems = [member.error for member in members if member.error]
    writer = output.err()
    for problem in problems:
        for line in output.error_lines(problem):
            writer.line(line)
    log = keep_faults(members)
    if log:
        writer.line(f"log of this run: {log}")
    status = 1 if bad else exit_status(problems, len(members))
    if status:
        sys.exit(status)


def follow(members: list[Member], events: Callable[[Stop], Iterable[Event]], as_json: bool) -> None:
    """Follow a run to its end, and leave with its exit status."""
    from tasks.engine.report import runs
    from tasks.engine.report.run_view import follow as watch

    place = runs.folder(ROOT, os.environ)
    try:
        with stopped_by_signals() as stop:
            hosts = [member.host.name for member in members]
            tally = watch(events(stop), hosts, members[0].run.id, place, os.environ, as_json=as_json)
    finally:
        for member in members:
            member.close()
    sys.exit(128 + stop.signal if stop.signal else tally.status)
