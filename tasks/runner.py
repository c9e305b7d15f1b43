"""Choose the hosts of a command, ask them or follow a run, and exit with the right status."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.engine.errors import UsageError
from tasks.executor import ROOT, agreed, ended_by_interrupt, invocation, stopped_by_signals

_Answer = TypeVar("_Answer")

if TYPE_CHECKING:
    import threading
    from concurrent.futures import Future

    from tasks.engine.config.inventory import Host
    from tasks.engine.config.selection import Selection
    from tasks.engine.deploy.signing_key import SigningKey
    from tasks.engine.events import Event
    from tasks.engine.fleet.member import Member
    from tasks.engine.fleet.project import Project
    from tasks.engine.parallel import Emit, Stop
    from tasks.engine.ssh.ssh_session import SshSession


_BEGAN = time.monotonic()
"""The time at which the command began: it loads this module first."""

PendingSessions = dict[str, "Future[SshSession]"]
"""Connections that are being opened, by host."""


def open_fleet(
    c: Any, changing: str | None = None, user: str | None = None, *, early: bool = False
) -> tuple[Project, list[Member]]:
    """Return the project and a member for each selected host; contact no host yet, unless `early`.

    changing: the verb, if it changes hosts; it asks for a yes if there are several hosts and no -H.
    early: all input is valid, so open the connections while the rest loads; a dry run opens none, as it may need none.
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
    """Return the project and the selected hosts. retry: those that the last run left behind, in place of -H."""
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
    if changing in ("deploy", "setup", "cert"):
        check_files(project, selection.hosts)
    return project, selection


def check_files(project: Project, hosts: Iterable[Host]) -> None:
    """Raise UsageError unless every file that setup takes from this clone can be read."""
    for service in dict.fromkeys(map(project.service_of, hosts)):
        if service.nginx and (service.nginx.tls.mode == "files" or service.nginx.files):
            from tasks.engine.host import payload

            payload.check_given(service, ROOT)
            if service.nginx.tls.mode == "files":
                payload.check(service.nginx.tls, ROOT)
            elif service.nginx.tls.mode == "ca":
                from tasks.engine.deploy import authority

                authority.load(service.nginx.tls, ROOT, authority.now())


def start_connecting(c: Any, selection: Selection, valid: threading.Event | None = None) -> PendingSessions:
    """Connect in threads while the controller still loads its modules.

    valid: set when all input is valid; until then no host is contacted, and `ssh -G` finds the addresses.
    """
    from tasks.engine import parallel
    from tasks.engine.fleet import failpoints
    from tasks.engine.ssh.ssh_config import resolve
    from tasks.engine.ssh.ssh_session import SshSession

    options = invocation(c).options
    points = {host.name: failpoints.setting(os.environ, host.name) for host in selection.hosts}

    def connect(host: Host) -> SshSession:
        endpoint = resolve(host, options)
        if valid:
            valid.wait()
        failpoints.reach(points[host.name], "controller.connect", host.name)
        return SshSession(host, options, endpoint=endpoint)

    return {host.name: parallel.run_in_thread(partial(connect, host)) for host in selection.hosts[: parallel.LIMIT]}


def members_of(
    c: Any, project: Project, selection: Selection, user: str | None = None, pending: PendingSessions | None = None
) -> list[Member]:
    """Return a member for each selected host."""
    from tasks.engine import parallel
    from tasks.engine.fleet import project as projects

    # It asks git, which answers while the modules below load.
    begun = parallel.run_in_thread(partial(projects.begin, ROOT))
    from tasks.engine.fleet import failpoints
    from tasks.engine.fleet.member import Member

    run, options = begun.result(), invocation(c).options
    return [
        Member(
            host,
            project.service_of(host),
            run._replace(failpoint=failpoints.setting(os.environ, host.name)),
            options,
            user,
            opening=(pending or {}).get(host.name),
            began=_BEGAN,
        )
        for host in selection.hosts
    ]


def signing_key(c: Any, project: Project, user: str | None = None) -> SigningKey:
    """Return the source of SECRET_KEY for hosts that lack it; it asks all hosts beside them in the inventory."""
    from tasks.engine.config.selection import Selection
    from tasks.engine.deploy.signing_key import SigningKey
    from tasks.engine.release import git

    def beside(host: str) -> list[Member]:
        return members_of(c, project, Selection(project.inventory.beside(host), None), user)

    return SigningKey(beside, lambda: git.origin(ROOT))


def _confirm(verb: str, selection: Selection) -> None:
    """List several hosts that no -H named, and ask once; refuse without a terminal."""
    if selection.expression is not None or len(selection.hosts) < 2:
        return
    names = ", ".join(host.name for host in selection.hosts)
    if not sys.stdin.isatty():
        raise UsageError(
            f"{verb} means {len(selection.hosts)} hosts, and none was named: {names}",
            where="-H",
            next=f"fab {verb} -H all",
        )
    if not agreed(f"{verb} on {len(selection.hosts)} hosts, in this order: {names}\ngo on?"):
        raise UsageError("nothing was done", where="-H", next=f"fab {verb} -H {selection.hosts[0].name}")


def ask(members: list[Member], question: Callable[[Member], _Answer]) -> dict[str, _Answer]:
    """Ask the hosts in parallel; return their answers in order. A member without one carries its error."""
    from tasks.engine.fleet.each import on_each

    answers: dict[str, _Answer] = {}

    def look(member: Member, _: Callable[[None], None]) -> None:
        answers[member.host.name] = question(member)

    with ended_by_interrupt():
        for _ in on_each(members, look):
            pass
    return {member.host.name: answers[member.host.name] for member in members if member.host.name in answers}


def errors(members: list[Member]) -> list[dict[str, object]]:
    """Return the errors of the hosts that gave no answer, for JSON."""
    return [{"host": member.host.name, **member.error.as_dict()} for member in members if member.error]


def keep_faults(members: list[Member]) -> str | None:
    """Write the tracebacks of unreadable answers into the run's log; return its path, if there are any."""
    from tasks.engine.misread import Misread
    from tasks.engine.report import runs

    faults = {member.host.name: member.error.trace for member in members if isinstance(member.error, Misread)}
    return runs.keep_faults(runs.folder(ROOT, os.environ), members[0].run.id, faults) if faults else None


def leave(members: list[Member], *, bad: bool = False) -> None:
    """Print the errors of a query, and exit unless the status is 0. It is 1 if `bad`, else that of the errors."""
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


def answer(
    members: list[Member],
    hosts: Iterable[Mapping[str, object]],
    lines: Iterable[str],
    *,
    json: bool,
    bad: bool = False,
) -> None:
    """Print the answers of a query, as one JSON document of `hosts` or as `lines`; then exit as `leave` does."""
    from tasks.engine.report import output

    if json:
        output.document({"hosts": list(hosts), "errors": errors(members)})
    else:
        writer = output.out()
        for line in lines:
            writer.line(line)
    leave(members, bad=bad)


def follow(members: list[Member], events: Callable[[Stop], Iterable[Event]], as_json: bool) -> None:
    """Follow a run to its end, and exit with its status."""
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


def follow_each(members: list[Member], work: Callable[[Member, Emit], None], as_json: bool) -> None:
    """Follow the same work on all hosts in parallel to its end, and exit with its status."""
    from tasks.engine.deploy import rollout

    follow(members, lambda stop: rollout.everywhere(members, work, stop), as_json)
