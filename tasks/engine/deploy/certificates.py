"""Issue the certificate of one host by the operator's CA: the host sends a request, and its key stays there."""

from __future__ import annotations

from pathlib import Path

from tasks.engine.deploy import authority
from tasks.engine.fleet.member import Member
from tasks.engine.host import payload, steps
from tasks.engine.parallel import Emit


def issue_if_needed(root: Path, member: Member, emit: Emit) -> None:
    """Issue a certificate after setup, unless the host has a good one."""
    if steps.issue(member.service):
        _issue(root, member, emit, rotate=False, always=False)


def renew(root: Path, member: Member, emit: Emit, *, rotate: bool) -> None:
    """Issue a new certificate; rotate: with a new key."""
    text = _issue(root, member, emit, rotate=rotate, always=True)
    member.finish(emit, "renewed", text)


def _issue(root: Path, member: Member, emit: Emit, *, rotate: bool, always: bool) -> str:
    service = member.service
    assert service.nginx
    ours, names, now = authority.load(service.nginx.tls, root, authority.now()), service.nginx.names, authority.now()
    asking, giving = steps.issue(service, rotate=rotate)
    answer = member.perform(asking, emit)
    if not always and ours.is_good("".join(answer.all("certificate")), names, now):
        return ""
    made = ours.sign("".join(answer.all("request")), names, now)
    member.perform(giving, emit, payload.certified(made.chain))
    return f"{', '.join(names)}, for {made.days} days, by {ours.name}{', with a new key' if rotate else ''}"
