"""plan, deploy, rollback, restart: what moves releases."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from tasks.program import invocation, stopped_by_signals, verb

if TYPE_CHECKING:
    from tasks.engine.events import Event
    from tasks.engine.fanout import Stop
    from tasks.engine.member import Member


@verb()
def plan(c: Any, script: bool = False, json: bool = False) -> None:
    """Show what a deploy would change; --script prints the exact text that would run."""
    from tasks import fleet, plans

    project, members = fleet.open_fleet(c)
    made = project.release()
    found = plans.make(project, made, members)
    if script:
        plans.show_scripts([(one.host, one.scripts()) for _, one in found])
    else:
        plans.show(project, made, members, found, as_json=json)
    fleet.leave(members)


@verb()
def deploy(c: Any, require_clean: bool = False, json: bool = False) -> None:
    """Stage the release on all selected hosts in parallel, then activate it."""
    from tasks import fleet, plans
    from tasks.engine import rollout

    project, members = fleet.open_fleet(c, changing="deploy")
    made = project.release(require_clean=require_clean)
    if invocation(c).dry:
        plans.show_scripts([(one.host, one.scripts()) for _, one in plans.make(project, made, members)])
        fleet.leave(members)
        return
    plans.announce(project, made, as_json=json)
    _run(members, lambda stop: rollout.deploy(project, made, members, stop), json)


@verb()
def rollback(c: Any, to: str = "", json: bool = False) -> None:
    """Activate an earlier release: the one before, or --to ID. Nothing is sent or installed."""
    _switch(c, "rollback", to or None, json)


@verb()
def restart(c: Any, json: bool = False) -> None:
    """Activate the live release again in the other slot, losing no request."""
    _switch(c, "restart", None, json)


def _switch(c: Any, action: str, target: str | None, json: bool) -> None:
    from tasks import fleet, plans
    from tasks.engine import rollout

    _, members = fleet.open_fleet(c, changing=action)
    if invocation(c).dry:
        plans.dry(members, lambda member: rollout.switch_script(member, action, target))
        return
    _run(members, lambda stop: rollout.switch(members, action, target, stop), json)


def _run(members: list[Member], events: Callable[[Stop], Iterable[Event]], json: bool) -> None:
    """Follow a run to its end, and leave with its exit status."""
    from tasks.engine import report

    follower = report.Follower([member.host.name for member in members], as_json=json)
    try:
        with stopped_by_signals() as stop:
            status = follower.follow(events(stop))
    finally:
        for member in members:
            member.close()
    sys.exit(128 + stop.signal if stop else status)
