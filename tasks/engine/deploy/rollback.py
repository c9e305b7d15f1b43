"""Which release a rollback or restart activates on a host, and the scripts of it."""

from __future__ import annotations

from tasks.engine.deploy import plan
from tasks.engine.deploy.candidate import Candidate
from tasks.engine.errors import LoopError
from tasks.engine.fleet.member import Member
from tasks.engine.host import history, maintenance, questions, steps
from tasks.engine.host.facts import Facts


def choose_target(member: Member, action: str, wanted: str | None, found: Facts) -> Candidate:
    """What a rollback or restart activates on a host."""
    member.accept(found)
    release = target_of(member, action, wanted, found)
    for path in questions.switch(member.service).files:
        if path not in found.files:
            told = f"there is no {path} on the host, which guards a run"
            raise LoopError(told, where=member.host.name, next=f"fab setup -H {member.host.name}", code="outdated")
    return Candidate(member, plan.activation(action, release, found), maintenance.warn(found))


def target_of(member: Member, action: str, wanted: str | None, found: Facts) -> str:
    """The id that a rollback or restart activates."""
    name = member.host.name
    if found.current is None:
        raise LoopError("no release is committed on this host", where=name, next=f"fab deploy -H {name}")
    # What is not committed has not come to stay: the way back from it is the committed one.
    if action == "restart" or (found.live != found.current and not wanted):
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


def switch_scripts(
    member: Member, action: str, target: str | None, wait: int, stop_first: bool = False
) -> tuple[steps.Script, ...]:
    """What a rollback or restart would run on a host, in order. wait: seconds for another run to end."""
    found = member.ask(questions.switch(member.service))
    activation = choose_target(member, action, target, found).activation
    return (
        steps.facts(member.service, questions.switch(member.service)),
        steps.hold(member.service, action, activation.release, wait),
        steps.activate(member.service, activation, stop_first=stop_first),
    )
