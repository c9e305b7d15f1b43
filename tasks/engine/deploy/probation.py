"""The probation of a release, as a controller sees it that wants to know the end: the host itself decides."""

from __future__ import annotations

import time

from tasks.engine.errors import LoopError
from tasks.engine.events import Step
from tasks.engine.fleet.member import Member, describe
from tasks.engine.host import layout, questions
from tasks.engine.host.facts import Facts
from tasks.engine.host.log_text import summarize
from tasks.engine.parallel import Emit, Stop
from tasks.engine.ssh.session import LinkLost

_SLICE = 2
"""Seconds of one question: a signal is heard between two."""
_AFTER = 120
"""Seconds beyond the probation for the commit, and for the drain of the former slot."""


def wait_until_over(member: Member, seconds: int, emit: Emit, stop: Stop) -> bool:
    """Wait until no release is on probation on this host; False when a signal came first.

    seconds: how long the probation is. It goes on without us, so a link that is lost is opened again.
    """
    until = time.monotonic() + seconds + member.service.drain + _AFTER
    told = False
    while not stop:
        try:
            found = member.ask(questions.probation(_SLICE))
        except LinkLost:
            if time.monotonic() > until:
                raise
            member.connect().reopen()
            continue
        if found.probation is None:
            return True
        if not told:
            emit(Step(member.host.name, "probation", "wait", f"{found.probation} s more"))
            told = True
        if time.monotonic() > until:
            raise LoopError("the probation does not come to its end", where=member.host.name,
                            next=f"on the host: journalctl -u '{member.service.name}-probation@*'")  # fmt: skip
    return False


def require_committed(member: Member, release: str) -> None:
    """What became of the probation of a release, this run's or another's: LoopError unless it was committed."""
    found = member.ask(questions.verdict(_SLICE))
    # A run of this release that began later, and was refused, is not the one that was on probation.
    runs = [one.run for one in found.actions if one.release == release and one.state == "probation"]
    mine = [one for one in found.actions if one.run in runs[-1:] and one.release == release]
    state = mine[-1].state if mine else ""
    if state == "done":
        return
    host = member.host.name
    if state in {"returned", "failed"}:
        told = f"release {release} did not hold its probation: {mine[-1].why}"
        raise LoopError(
            f"{told}. The host went back by itself" if state == "returned" else told,
            where=host,
            next=f"fab logs -H {host} -n 100",
            detail=summarize(found.journal, found.systemd),
            code=state,
        )
    raise LoopError(
        f"the probation of {release} was cut short: {_since(found)}", where=host, next=f"fab history -H {host}"
    )


def read_back(member: Member, release: str, lost: LinkLost, emit: Emit) -> str | None:
    """A lost link says nothing about the outcome: ask the host, once whoever still works there has ended.

    The seconds that are left of its probation, None when it is committed; raises `lost` when it is neither.
    """
    emit(Step(member.host.name, "activate", "reconnect", lost.message))
    member.connect().reopen()
    wait = layout.start_timeout(member.service) + member.service.health.timeout + 60
    found = member.ask(questions.outcome(wait))
    # A hook of the same run has an outcome of its own.
    mine = [one.state for one in found.actions if one.run == member.run.id and one.action != "before_activate"]
    if found.live != release or not found.healthy or not {"done", "probation"} & set(mine):
        raise lost
    return None if found.probation is None else str(found.probation)


def _since(found: Facts) -> str:
    later = found.actions[-1] if found.actions else None
    return f"{later.action} of {later.release} came, and it now serves {describe(found)}" if later else describe(found)
