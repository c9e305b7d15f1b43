"""cert: renew the certificates that the operator's own CA issues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.executor import ROOT, invocation, verb

if TYPE_CHECKING:
    from tasks.engine.fleet.member import Member


@verb(
    rotate="make a new key on each host, too",
    as_="account to log in as: root, or one with sudo without a password",
)
def cert(c: Any, rotate: bool = False, as_: str = "", json: bool = False) -> None:
    """Renew the certificates that your own CA issues.

    For `tls: {ca: ...}`: with the names and the days of service.yaml.
    No key leaves its machine. Needs root, as setup does; loses no request.
    """
    from tasks import plan_view, runner
    from tasks.engine.deploy import certificates
    from tasks.engine.host import steps

    _, members = runner.open_fleet(c, changing="cert", user=as_ or None)
    _require_ca(members)
    if invocation(c).dry:
        plan_view.dry(members, lambda member: steps.issue(member.service, rotate=rotate))
        return
    runner.follow_each(members, lambda member, emit: certificates.renew(ROOT, member, emit, rotate=rotate), json)


def _require_ca(members: list[Member]) -> None:
    from tasks.engine.errors import UsageError
    from tasks.engine.host import steps

    others = [member.host.name for member in members if not steps.issue(member.service)]
    if others:
        message = f"the certificate of {', '.join(others)} does not come from your own CA"
        tls = "tls: {ca: {certificate: tls/ca.pem, key: tls/ca.key}}"
        fix = f"write {tls} below nginx in service/service.yaml, and run fab setup"
        raise UsageError(message, where="-H", next=fix)
