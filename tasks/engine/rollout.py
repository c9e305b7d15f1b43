"""deploy, rollback and restart over a fleet: stage on all hosts in parallel, then activate one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from tasks.engine import facts as reports
from tasks.engine import history, host_files, payload, plan, scripts
from tasks.engine.errors import LoopError
from tasks.engine.events import Event, Step
from tasks.engine.facts import Facts
from tasks.engine.fanout import Emit, Stop, gather, pool
from tasks.engine.member import Edited, LinkLost, Member
from tasks.engine.plan import HostPlan
from tasks.engine.project import Project
from tasks.engine.release import Release
from tasks.engine.scripts import Question


@dataclass
class Candidate:
    """A host on its way through a run: the release it is to serve, and what served before."""

    member: Member
    release: str
    before: str | None
    unchanged: bool = False


def prepare(
    project: Project, made: Release, member: Member, emit: Emit, *, show: bool = False
) -> tuple[Facts, HostPlan]:
    """Facts, wheels and the plan of one host; changes nothing."""
    service, host = member.service, member.host
    emit(Step(host.name, "plan", "connect"))
    account = host.user or member.login
    files = tuple(file.path for file in host_files.render(service, host_files.Ground(account, None, False)))
    question = Question(files, host.python or "", show, manifest=True, health=True)
    found = member.ask(question)
    python = reports.choose_python(found, host.python, service.python, host.name)
    wheels = project.wheelhouse(made, python.target(), lambda text: emit(Step(host.name, "plan", "wheels", text)))
    setup = plan.setup(service, found, account, payload.certificate(service, project.root))
    return found, plan.deploy(host.name, service, made, found, python, wheels, setup)


def deploy(project: Project, made: Release, members: Sequence[Member], stop: Stop) -> Iterator[Event]:
    """Stage everywhere; where that held on every host, activate in inventory order and stop at the first failure."""
    candidates: dict[str, Candidate] = {}

    def stage(member: Member) -> Callable[[Emit], None]:
        def work(emit: Emit) -> None:
            candidates[member.host.name] = _stage(project, made, member, emit)

        return _guard(member, work)

    yield from _everywhere([stage(member) for member in members])
    yield from _activate(members, candidates, "deploy", stop)


def switch(members: Sequence[Member], action: str, target: str | None, stop: Stop) -> Iterator[Event]:
    """rollback and restart: activate what is there already, with nothing sent or built."""
    candidates: dict[str, Candidate] = {}

    def look(member: Member) -> Callable[[Emit], None]:
        def work(emit: Emit) -> None:
            found = member.ask(Question())
            member.act_as(found.account or member.login)
            candidates[member.host.name] = Candidate(member, _target(member, action, target, found), found.current)
            emit(Step(member.host.name, "plan", action, candidates[member.host.name].release))

        return _guard(member, work)

    yield from _everywhere([look(member) for member in members])
    yield from _activate(members, candidates, action, stop)


def _target(member: Member, action: str, wanted: str | None, found: Facts) -> str:
    """The id that a rollback or restart activates."""
    name = member.host.name
    if found.current is None:
        raise LoopError("no release is committed on this host", where=name, next=f"fab deploy -H {name}")
    if action == "restart":
        return found.current
    if wanted:
        fits = [release for release in found.release_ids if release.startswith(wanted)]
        if len(fits) == 1:
            return fits[0]
        told = "is not on this host" if not fits else "fits more than one release"
        raise LoopError(f"release {wanted} {told}", where=name, next=f"fab releases -H {name}")
    before = history.previous(found.actions, found.current, found.release_ids)
    if before is None:
        raise LoopError(
            f"there is no release before {found.current} to go back to",
            where=name,
            next=f"fab releases -H {name}, then: fab rollback -H {name} --to ID",
        )
    return before


def _guard(member: Member, work: Callable[[Emit], None]) -> Callable[[Emit], None]:
    def guarded(emit: Emit) -> None:
        try:
            work(emit)
        except LoopError as error:
            member.fail(error, emit)

    return guarded


def everywhere(members: Sequence[Member], work: Callable[[Member, Emit], None], stop: Stop) -> Iterator[Event]:
    """The same work on all hosts in parallel; a signal keeps it from being begun on further hosts."""

    def one(member: Member) -> Callable[[Emit], None]:
        def begin(emit: Emit) -> None:
            if not stop:
                work(member, emit)

        return _guard(member, begin)

    try:
        yield from _everywhere([one(member) for member in members])
    finally:
        for member in members:
            member.close()


def switch_script(member: Member, action: str, target: str | None) -> scripts.Script:
    """What a rollback or restart would run on a host."""
    found = member.ask(Question())
    release = _target(member, action, target, found)
    return scripts.activate(member.service, action, release, found.current)


def _everywhere(works: Sequence[Callable[[Emit], None]]) -> Iterator[Event]:
    with pool(len(works)) as executor:
        yield from gather(works, executor)


def _stage(project: Project, made: Release, member: Member, emit: Emit) -> Candidate:
    """One host, up to a staged release. Root's part comes first, while nothing has changed yet."""
    _, planned = prepare(project, made, member, emit)
    if not planned.unchanged:
        emit(Step(member.host.name, "plan", "deploy", planned.why))
    if planned.setup.needed:
        install(project, member, planned.setup, emit)
    member.act_as(planned.setup.account)
    if not planned.unchanged:
        try:
            _send(made, member, planned, emit)
        except Edited:
            emit(Step(member.host.name, "stage", "resend", "files on the host were edited: everything is sent"))
            _send(made, member, plan.resend(planned), emit)
    return Candidate(member, planned.release, planned.before, planned.unchanged)


def install(project: Project, member: Member, setup: plan.Setup, emit: Emit) -> None:
    """Root's part, then a new connection: the account has joined a group."""
    script = scripts.setup(member.service, setup.account, setup.packages)
    sent = payload.setup(member.service, setup.files, host_files.readme(member.service), project.root)
    member.perform(script, emit, sent)
    member.connect().reopen()


def _send(made: Release, member: Member, planned: HostPlan, emit: Emit) -> None:
    delivery = planned.delivery
    record = {
        "id": made.id,
        "commit": made.commit,
        "dirty": len(made.dirty),
        "run": member.run.id,
        "python": delivery.staging.python,
        "packages": sorted("==".join(wheel.filename.split("-")[:2]) for wheel in delivery.wheelhouse.wheels),
    }
    sent = (
        ()
        if delivery.staging.present
        else payload.staging(
            made,
            delivery.launchers,
            delivery.wheelhouse,
            record,
            same=delivery.same,
            wheels_there=delivery.wheels_there,
            venv_there=delivery.venv_there,
        )
    )
    if not delivery.staging.present:
        emit(Step(member.host.name, "stage", "send", f"{len(delivery.changed)} of {len(made.tree.entries)} files"))
    member.perform(scripts.stage(planned.service, delivery.staging), emit, sent)


def _activate(members: Sequence[Member], candidates: dict[str, Candidate], action: str, stop: Stop) -> Iterator[Event]:
    """In inventory order, one after another, and no further after a failure."""
    for member in members:
        if any(one.error for one in members) or stop:
            return
        candidate = candidates[member.host.name]
        yield from _everywhere([_guard(member, partial(_activate_one, candidate, action))])


def _activate_one(candidate: Candidate, action: str, emit: Emit) -> None:
    member = candidate.member
    if candidate.unchanged:
        member.finish(emit, "unchanged", f"release {candidate.release} serves already", release=candidate.release)
        return
    script = scripts.activate(member.service, action, candidate.release, candidate.before)
    try:
        member.perform(script, emit)
    except LinkLost as lost:
        _read_back(candidate, lost, emit)
    done = {"deploy": "deployed", "rollback": "rolled back", "restart": "restarted"}[action]
    came = f"{candidate.before} -> {candidate.release}" if candidate.before else candidate.release
    member.finish(emit, done, came, release=candidate.release, before=candidate.before)


def _read_back(candidate: Candidate, lost: LinkLost, emit: Emit) -> None:
    """A lost link says nothing about the outcome: ask the host, once whoever still works there has ended."""
    member = candidate.member
    emit(Step(member.host.name, "activate", "reconnect", lost.message))
    member.connect().reopen()
    found = member.ask(Question(health=True, wait=candidate.member.service.health.timeout + 60))
    mine = [action for action in found.actions if action.run == member.run.id and action.state == "done"]
    if not (mine and found.current == candidate.release and found.healthy):
        raise lost
