"""setup, start, stop and remove on one host."""

from __future__ import annotations

from tasks.engine.deploy import plan, stage
from tasks.engine.fleet.member import Member
from tasks.engine.fleet.project import Project
from tasks.engine.host import maintenance, questions, steps
from tasks.engine.host.steps import Consent, Script
from tasks.engine.parallel import Emit


def _look(project: Project, member: Member, consent: Consent) -> plan.Setup:
    service = member.service
    account = member.host.user or member.login
    found = member.ask(questions.setup(service, account))
    return plan.setup(service, found, account, stage.own(project, service), consent)


def setup_script(project: Project, member: Member, consent: Consent) -> Script:
    """The step that setup would run."""
    return _look(project, member, consent).script(member.service)


def setup(project: Project, member: Member, emit: Emit, consent: Consent) -> None:
    """Run root's part even if nothing seems to differ: the user asked for it explicitly."""
    found = _look(project, member, consent)
    stage.install(project, member, found, emit)
    told = f"done, since {'; '.join(found.reasons)}" if found.reasons else "nothing had to be written"
    told = f"{len(found.changed)} files written" if found.changed else told
    member.finish(emit, "ready", f"{told}; deploys run as {found.account}", files=list(found.changed))


def stop(member: Member, emit: Emit, *, disable: bool) -> None:
    """Drain and stop; `disable` keeps a boot from starting it."""
    found = member.ask(questions.state())
    member.accept(found)
    member.act_as(found.account or member.login)
    member.perform(steps.stop(member.service, disable=disable), emit)
    told = "a boot starts it again" if not disable else "a boot does not start it either"
    member.finish(emit, "stopped", told, maintenance.warn(found))


def start(member: Member, emit: Emit) -> None:
    """Start the committed release and wait for its health check."""
    found = member.ask(questions.state())
    member.accept(found)
    member.act_as(found.account or member.login)
    member.perform(steps.start(member.service), emit)
    member.finish(emit, "started", f"release {found.current}", maintenance.warn(found), release=found.current)


def remove(member: Member, emit: Emit, *, data: bool) -> None:
    """Take everything of the service off the host."""
    member.perform(steps.remove(member.service, data=data), emit)
    kept = "its data too" if data else f"its data stays in /var/lib/{member.service.name}"
    member.finish(emit, "removed", kept)
