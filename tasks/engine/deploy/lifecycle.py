"""Perform setup, start, stop and remove on one host."""

from __future__ import annotations

from tasks.engine.deploy import plan, stage
from tasks.engine.deploy.signing_key import SigningKey
from tasks.engine.fleet.member import Member
from tasks.engine.fleet.project import Project
from tasks.engine.host import maintenance_page, questions, steps
from tasks.engine.host.steps import Consent, HostStep
from tasks.engine.parallel import Emit


def _look(project: Project, member: Member, consent: Consent) -> plan.Setup:
    service = member.service
    account = member.host.user or member.login
    facts = member.ask(questions.setup(service, account))
    return plan.setup(service, facts, account, stage.from_clone(project, service), consent)


def setup_step(project: Project, member: Member, consent: Consent) -> HostStep:
    """Return the step that setup would run."""
    return _look(project, member, consent).step(member.service)


def setup(project: Project, member: Member, emit: Emit, consent: Consent, signing_key: SigningKey) -> None:
    """Run the root setup even if nothing seems to differ: the user asked for it explicitly."""
    planned = _look(project, member, consent)
    stage.install(project, member, planned, emit)
    # A deploy may not have the rights.
    if signing_key.lacking(member.service, member.ask(questions.state())):
        signing_key.bring(member, emit)
    text = f"done, since {'; '.join(planned.reasons)}" if planned.reasons else "nothing had to be written"
    text = f"{len(planned.changed)} files written" if planned.changed else text
    member.finish(emit, "ready", f"{text}; deploys run as {planned.account}", files=list(planned.changed))


def stop(member: Member, emit: Emit, *, disable: bool) -> None:
    """Drain and stop the service; `disable` keeps a boot from starting it."""
    facts = member.act_for_service()
    member.perform(steps.stop(member.service, disable=disable), emit)
    text = "a boot starts it again" if not disable else "a boot does not start it either"
    member.finish(emit, "stopped", text, maintenance_page.warn(facts, member.service))


def start(member: Member, emit: Emit) -> None:
    """Start the committed release and wait for its health check."""
    facts = member.act_for_service()
    member.perform(steps.start(member.service), emit)
    member.finish(
        emit,
        "started",
        f"release {facts.committed_release}",
        maintenance_page.warn(facts, member.service),
        release=facts.committed_release,
    )


def remove(member: Member, emit: Emit, *, data: bool) -> None:
    """Remove the service from the host."""
    member.perform(steps.remove(member.service, data=data), emit)
    name, logs = member.service.name, "logs" in member.service.needs
    text = "its data too" if data else f"its data stays in /var/lib/{name}{f' and /var/log/{name}' if logs else ''}"
    member.finish(emit, "removed", text)
