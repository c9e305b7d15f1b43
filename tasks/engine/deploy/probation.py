"""Wait for the end of a probation, and read its outcome; the host itself decides."""

from __future__ import annotations

import time

from tasks.engine.errors import LoopError
from tasks.engine.events import Step
from tasks.engine.fleet.member import Member, describe
from tasks.engine.host import layout, questions, sandbox_hints
from tasks.engine.host.facts import Facts
from tasks.engine.host.history import Action
from tasks.engine.host.log_text import summarize
from tasks.engine.parallel import Emit, Stop
from tasks.engine.ssh.session import LinkLost

_SLICE = 2
"""Seconds of one question; a signal takes effect between two."""
_AFTER = 120
"""Seconds beyond the probation and the drain in which the host must commit."""
_PAUSE = 0.2
"""Seconds between two questions while systemd restarts the guard."""


def wait_until_over(member: Member, seconds: int, emit: Emit, stop: Stop) -> bool:
    """Wait until no release is on probation on this host; return False if a signal came first.

    seconds: length of the probation. It goes on without us, so a lost link is opened again.
    """
    until = time.monotonic() + seconds + member.service.drain + _AFTER
    shown = False
    while not stop:
        try:
            facts = member.ask(questions.probation(_SLICE))
        except LinkLost:
            if time.monotonic() > until:
                raise
            member.connect().reopen()
            continue
        if facts.probation is None:
            return True
        if not shown:
            emit(Step(member.host.name, "probation", "wait", f"{facts.probation} s more"))
            shown = True
        if time.monotonic() > until:
            raise LoopError("the probation did not end in time", where=member.host.name,
                            next=f"on the host: journalctl -u '{member.service.name}-probation@*'")  # fmt: skip
    return False


def require_committed(member: Member, release: str) -> None:
    """Raise LoopError unless the last probation of a release, this run's or another's, ended in a commit."""
    until = time.monotonic() + member.service.drain + _AFTER
    facts, last = _verdict(member, release)
    # If the guard was killed between its commit and its record, systemd starts it again, and it records the commit.
    while last and last.state == "probation" and facts.state.finishing and time.monotonic() < until:
        time.sleep(_PAUSE)
        facts, last = _verdict(member, release)
    state = last.state if last else ""
    if state == "done":
        return
    host = member.host.name
    if last and state in {"returned", "failed"}:
        text = f"release {release} did not hold its probation: {last.why}"
        shown = summarize(facts.journal, facts.systemd)
        raise LoopError(
            f"{text}. The host went back by itself" if state == "returned" else text,
            where=host,
            next=f"fab logs -H {host} -n 100{sandbox_hints.advice(shown, member.service.needs)}",
            detail=shown,
            code=state,
        )
    raise LoopError(
        f"the probation of {release} was cut short: {_cut_by(facts, last)}", where=host, next=f"fab history -H {host}"
    )


def _verdict(member: Member, release: str) -> tuple[Facts, Action | None]:
    """Return the facts, and the last line of the history for the last run that had this release on probation."""
    facts = member.ask(questions.verdict(_SLICE))
    # A later run of this release that was refused is not the one that was on probation.
    runs = [action.run for action in facts.actions if action.release == release and action.state == "probation"]
    mine = [action for action in facts.actions if action.run in runs[-1:] and action.release == release]
    return facts, mine[-1] if mine else None


def read_back(member: Member, release: str, lost: LinkLost, emit: Emit) -> str | None:
    """Ask the host for the outcome of an activation whose link was lost, once the activation there has ended.

    Return the seconds left of the release's probation, None if it is committed; raise `lost` if neither holds.
    """
    emit(Step(member.host.name, "activate", "reconnect", lost.message))
    member.connect().reopen()
    wait = layout.start_timeout(member.service) + member.service.health.timeout + 60
    facts = member.ask(questions.outcome(wait))
    # A hook of the same run has an outcome of its own.
    mine = [one.state for one in facts.actions if one.run == member.run.id and one.action != "before_activate"]
    if facts.live_release != release or not facts.healthy or not {"done", "probation"} & set(mine):
        raise lost
    return None if facts.probation is None else str(facts.probation)


def _cut_by(facts: Facts, last: Action | None) -> str:
    """Return what ended a probation early, and what the host serves now. last: the last line of its run."""
    later = facts.actions[-1] if facts.actions else None
    serves = f"the host now serves {describe(facts)}"
    if later is None or later == last:
        cause = "by a stop or a reboot; " if last and last.state == "ended" else ""
        return f"{cause}{serves}"
    return f"{later.action} of {later.release} came, and {serves}"
