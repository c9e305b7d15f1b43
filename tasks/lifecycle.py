"""setup, start, stop, remove: the verbs for the service on a host, not for its releases."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tasks.executor import CONSENT, invocation, verb

if TYPE_CHECKING:
    from tasks.engine.fleet.member import Member


@verb(**CONSENT, as_="account to log in as: root, or one with sudo without a password")
def setup(c: Any, as_: str = "", take_over: bool = False, overwrite: bool = False, json: bool = False) -> None:
    """Make a host ready, once, with root rights.

    Writes accounts, directories, units, the nginx file and exact sudo rules.
    --as root logs in as root, and gives the account of hosts.yaml its rights.
    """
    from tasks import plan_view, runner
    from tasks.engine.deploy import lifecycle
    from tasks.engine.host import steps
    from tasks.engine.host.steps import Consent

    consent = Consent(take_over, overwrite)
    project, members = runner.open_fleet(c, changing="setup", user=as_ or None)
    if invocation(c).dry:
        plan_view.dry(
            members, lambda member: (lifecycle.setup_step(project, member, consent), *steps.issue(member.service))
        )
        return
    key = runner.signing_key(c, project, as_ or None)
    runner.follow_each(members, lambda member, emit: lifecycle.setup(project, member, emit, consent, key), json)


@verb(disable="keep a boot from starting the service again")
def stop(c: Any, disable: bool = False, json: bool = False) -> None:
    """Stop the service after its requests have drained."""
    from tasks import plan_view, runner
    from tasks.engine.deploy import lifecycle
    from tasks.engine.host import steps

    _, members = runner.open_fleet(c, changing="stop", early=True)
    if invocation(c).dry:
        plan_view.dry(members, lambda member: (steps.stop(member.service, disable=disable),))
        return
    runner.follow_each(members, lambda member, emit: lifecycle.stop(member, emit, disable=disable), json)


@verb()
def start(c: Any, json: bool = False) -> None:
    """Start the committed release, and wait for its health check."""
    from tasks import plan_view, runner
    from tasks.engine.deploy import lifecycle
    from tasks.engine.host import steps

    _, members = runner.open_fleet(c, changing="start", early=True)
    if invocation(c).dry:
        plan_view.dry(members, lambda member: (steps.start(member.service),))
        return
    runner.follow_each(members, lifecycle.start, json)


@verb(
    as_="account to log in as: root, where the deploy account has only the exact sudo rules",
    data="remove its data in /var/lib and /var/log, and its account, too",
    yes="remove without asking",
)
def remove(c: Any, as_: str = "", data: bool = False, yes: bool = False, json: bool = False) -> None:
    """Remove the service from the hosts, as root. Asks first."""
    from tasks import plan_view, runner
    from tasks.engine.deploy import lifecycle
    from tasks.engine.host import steps

    _, members = runner.open_fleet(c, changing="remove", user=as_ or None)
    if invocation(c).dry:
        plan_view.dry(members, lambda member: (steps.remove(member.service, data=data),))
        return
    if not yes:
        _ask(members, data=data)
    runner.follow_each(members, lambda member, emit: lifecycle.remove(member, emit, data=data), json)


def _ask(members: list[Member], *, data: bool) -> None:
    from tasks.engine.errors import UsageError

    names = ", ".join(member.host.name for member in members)
    what = f"{members[0].service.name} {'AND ITS DATA ' if data else ''}from {names}"
    if not sys.stdin.isatty():
        raise UsageError(f"this would remove {what}", where="--yes", next="to remove it: --yes")
    if input(f"remove {what}? type the service's name: ").strip() != members[0].service.name:
        raise UsageError("nothing was removed", where=names, next="type the name to go on")
