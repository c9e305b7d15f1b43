"""Choose the release that a rollback or restart activates on a host, and list its steps."""

from __future__ import annotations

from typing import NamedTuple

from tasks.engine.deploy import plan
from tasks.engine.deploy.prepared import Prepared
from tasks.engine.errors import LoopError
from tasks.engine.fleet.member import Member
from tasks.engine.host import history, maintenance_page, questions, steps
from tasks.engine.host.facts import Facts


def prepare(member: Member, action: str, wanted: str | None, facts: Facts) -> Prepared:
    """Return a host prepared for a rollback or restart."""
    member.accept(facts)
    release = target_of(member, action, wanted, facts)
    plan.require_secrets_of(release, member.service, facts, member.host.name)
    for path in questions.reactivate(member.service).files:
        if path not in facts.files:
            text = f"the unit that guards a run is missing on the host: {path}"
            raise LoopError(text, where=member.host.name, next=f"fab setup -H {member.host.name}", code="outdated")
    return Prepared(member, plan.activation(action, release, facts), maintenance_page.warn(facts, member.service))


def target_of(member: Member, action: str, wanted: str | None, facts: Facts) -> str:
    """Return the ID of the release that a rollback or restart activates."""
    name = member.host.name
    if facts.committed_release is None:
        raise LoopError("no release is committed on this host", where=name, next=f"fab deploy -H {name}")
    # During a probation, rolling back means returning to the committed release.
    if action == "restart" or (facts.live_release != facts.committed_release and not wanted):
        return facts.committed_release
    if wanted:
        fits = [release for release in facts.release_ids if release.startswith(wanted)]
        if len(fits) == 1:
            return fits[0]
        problem = "is not on this host" if not fits else "fits more than one release"
        raise LoopError(f"release {wanted} {problem}", where=name, next=f"fab releases -H {name}")
    before = history.previous(facts.actions, facts.committed_release, facts.release_ids)
    if before is None:
        raise LoopError(
            f"there is no release before {facts.committed_release} to go back to",
            where=name,
            next=f"fab releases -H {name}, then: fab rollback -H {name} --to ID",
        )
    return before


class Reactivation(NamedTuple):
    """A rollback or restart on one host. change: the action, and the releases with the traffic before and after."""

    change: str
    steps: tuple[steps.HostStep, ...]


def plan_reactivation(
    member: Member, action: str, target: str | None, wait: int, stop_first: bool = False
) -> Reactivation:
    """Plan a rollback or restart on a host. wait: seconds for another run to end."""
    facts = member.ask(questions.reactivate(member.service))
    activation = prepare(member, action, target, facts).activation
    return Reactivation(
        f"{action} {activation.served} -> {activation.release}",
        (
            steps.facts(member.service, questions.reactivate(member.service)),
            steps.hold(member.service, action, activation.release, wait),
            steps.activate(member.service, activation, stop_first=stop_first),
        ),
    )
