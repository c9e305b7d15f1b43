"""plan, deploy, rollback, restart: the verbs that move releases."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

from tasks.executor import CONSENT, invocation, verb

if TYPE_CHECKING:
    from tasks.engine.config.selection import Selection
    from tasks.engine.deploy.rollout import Rollout
    from tasks.engine.deploy.run_hooks import RunHooks
    from tasks.engine.deploy.waves import Policy
    from tasks.engine.fleet.member import Member
    from tasks.engine.fleet.project import Project
    from tasks.engine.parallel import Stop
    from tasks.engine.release.build import Release
    from tasks.runner import PendingSessions


class _Flags(NamedTuple):
    """The options of a run over a fleet, as they were typed."""

    canary: str = "1"
    batch: str = "25%"
    max_failures: str = "0"
    pause: str = "0"
    on_failure: str = "stop"
    lock_wait: str = "0"
    wait: bool = False
    retry_failed: bool = False
    stop_first: bool = False

    def policy(self) -> Policy:
        """Return the options as values; raise UsageError for an invalid one."""
        from tasks.engine.deploy import waves

        return waves.policy(self.canary, self.batch, self.max_failures, self.pause, self.on_failure, wait=self.wait)

    def lock_seconds(self) -> int:
        """Return the seconds to wait for another run."""
        from tasks.engine.deploy import waves

        return waves.seconds("--lock-wait", self.lock_wait)

    def again(self, c: Any, verb: str) -> Callable[[Sequence[str]], str]:
        """Return a function that writes this command line without some hosts."""
        from tasks.engine import quote

        expression = invocation(c).hosts or "all"
        # -H names the hosts, so --retry-failed is left out.
        flags = [
            f" --{name.replace('_', '-')}{'' if value is True else f' {value}'}"
            for name, value in self._replace(retry_failed=False)._asdict().items()
            if value != self._field_defaults[name]
        ]

        def command(excluded: Sequence[str]) -> str:
            hosts = ",".join([expression, *(f"-{host}" for host in excluded)])
            return f"fab {verb} -H {quote.shell(hosts)}{''.join(flags)}"

        return command


_HELP = {
    "canary": "number of hosts in the first wave",
    "batch": "hosts in each further wave: N, or P% of all, rounded up",
    "max_failures": "hosts that may fail in the whole run: N, or P%, rounded down",
    "pause": "seconds between two waves",
    "on_failure": "reaction if more than --max-failures hosts fail: stop, or undo what this run has activated",
    "lock_wait": "seconds to wait for the end of another run",
    "wait": "wait for the end of the probation in every wave",
    "retry_failed": "select the hosts that the last run left behind, in place of -H",
    "stop_first": "kill the old slot before the new one starts: a few seconds of 502, and no probation",
}


def _rolling(*without: str, **own: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a verb that runs over a fleet: its body gets the options of `_Flags` as one value.

    without: options of `_Flags` that the verb lacks; own: help texts of its other options.
    """
    shared = {name: text for name, text in _HELP.items() if name not in without}

    def decorate(body: Callable[..., None]) -> Callable[..., None]:
        @wraps(body)
        def rolling(c: Any, **given: Any) -> None:
            flags = _Flags(**{name: given.pop(name) for name in shared})
            body(c, flags, **given)

        context, _, *others = inspect.signature(body).parameters.values()
        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_Flags._field_defaults[name])
            for name in shared
        ]
        others = [other.replace(kind=inspect.Parameter.KEYWORD_ONLY) for other in others]
        rolling.__signature__ = inspect.Signature([context, *options, *others])  # type: ignore[attr-defined]
        return verb(**shared, **own)(rolling)

    return decorate


@verb(
    steps="print the exact text that each host would get for each step",
    script="former name of --steps",
    check="exit with 1 if a deploy would change anything",
)
def plan(c: Any, steps: bool = False, script: bool = False, check: bool = False, json: bool = False) -> None:
    """Show what a deploy would change; no host is changed."""
    from tasks import plan_view, runner

    project, members = runner.open_fleet(c)
    runner.check_files(project, [member.host for member in members])
    if not (steps or script):
        _build(project, as_json=json)
    release = project.release()
    planned = plan_view.make(project, release, members)
    if steps or script:
        plan_view.show_steps(plan_view.texts(planned, members))
    else:
        plan_view.show(project, release, members, planned, as_json=json)
    changes = any(not host_plan.unchanged or host_plan.setup.needed for _, host_plan in planned)
    runner.leave(members, bad=check and changes)


def _build(project: Project, *, as_json: bool) -> None:
    """Run `build` of service.yaml, and say which files of the release it changed."""
    from tasks.engine.config import service

    command = service.describe(project.document).build
    if command is None:
        return
    from tasks.engine.release import build_command
    from tasks.engine.report import output

    writer = output.err() if as_json else output.out()
    writer.line(f"build: {command}")
    changed = build_command.run(command, project.root, service.places(project.document, "include"))
    if changed:
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        writer.line(f"the build changed: {', '.join(changed[:5])}{more}")


@_rolling(**CONSENT, require_clean="refuse a release with files that are not committed")
def deploy(
    c: Any, flags: _Flags, require_clean: bool = False, take_over: bool = False, overwrite: bool = False,
    json: bool = False,
) -> None:  # fmt: skip
    """Stage a release on all hosts, then activate it in waves.

    For a while after the switch (`probation` in service.yaml) each host goes back
    by itself if the release fails. The second wave waits for the end of the first
    one's probation; with --wait a run waits for every probation.
    """
    from tasks import runner

    policy, lock_seconds = flags.policy(), flags.lock_seconds()
    project, selection = runner.choose(c, "deploy", retry=flags.retry_failed)
    if not invocation(c).dry:
        _build(project, as_json=json)
    valid = threading.Event()
    pending = _connecting(c, project, selection, valid)
    release = project.release(require_clean=require_clean)
    valid.set()
    members = runner.members_of(c, project, selection, pending=pending)
    from tasks import plan_view
    from tasks.engine.deploy.stage import DeployOrder
    from tasks.engine.host.steps import Consent

    consent = Consent(take_over, overwrite)
    if invocation(c).dry:
        plan_view.dry_deploy(project, release, members, consent, lock_seconds, stop_first=flags.stop_first)
        return
    plan_view.announce(project, release, as_json=json)
    again = flags.again(c, "deploy")
    order = DeployOrder(project, release, lock_seconds, consent, runner.signing_key(c, project))
    hooks = _hooks(project, members, "deploy", release)
    runner.follow(
        members,
        lambda stop: _rollout("deploy", members, policy, stop, again, flags.stop_first, hooks).deploy(order),
        json,
    )


@_rolling("wait", to="ID of the release to activate, or the beginning of it")
def rollback(c: Any, flags: _Flags, to: str = "", json: bool = False) -> None:
    """Activate an earlier release: the one before, or --to ID.

    Sends and installs nothing.
    """
    _reactivate(c, "rollback", to or None, flags, json)


@_rolling()
def restart(c: Any, flags: _Flags, json: bool = False) -> None:
    """Start the committed release again in the other slot.

    During a probation it waits for the end first. Loses no request, unless
    --stop-first.
    """
    _reactivate(c, "restart", None, flags, json)


def _reactivate(c: Any, action: str, target: str | None, flags: _Flags, json: bool) -> None:
    from tasks import runner

    policy, wait = flags.policy(), flags.lock_seconds()
    project, selection = runner.choose(c, action, retry=flags.retry_failed)
    members = runner.members_of(c, project, selection, pending=_connecting(c, project, selection))
    from tasks import plan_view
    from tasks.engine.deploy import rollback

    if invocation(c).dry:
        plan_view.dry_reactivation(
            members, lambda member: rollback.plan_reactivation(member, action, target, wait, flags.stop_first)
        )
        return
    again = flags.again(c, f"{action} --to {target}" if target else action)
    hooks = _hooks(project, members, action)
    runner.follow(
        members,
        lambda stop: _rollout(action, members, policy, stop, again, flags.stop_first, hooks).reactivate(target, wait),
        json,
    )


def _rollout(
    action: str,
    members: list[Member],
    policy: Policy,
    stop: Stop,
    again: Callable[[Sequence[str]], str],
    stop_first: bool,
    hooks: RunHooks | None,
) -> Rollout:
    """Return the run; import its engine only now."""
    from tasks.engine.deploy.rollout import Rollout

    return Rollout(action, members, policy, stop, again, stop_first, hooks)


def _connecting(
    c: Any, project: Project, selection: Selection, valid: threading.Event | None = None
) -> PendingSessions:
    """Connect in threads as soon as all input is valid, unless before_deploy may still stop the run."""
    from tasks import runner
    from tasks.engine.config import service

    waits = service.describe(project.document).hooks.before_deploy and not invocation(c).dry
    return {} if waits else runner.start_connecting(c, selection, valid)


def _hooks(project: Project, members: list[Member], action: str, release: Release | None = None) -> RunHooks | None:
    """Return the operator's programs around the run, with the document about the run; None if there are none."""
    import json

    from tasks.engine.config import service
    from tasks.engine.config.sections import ONCE_A_RUN

    described = service.describe(project.document)
    if not any(getattr(described.hooks, name) for name in ONCE_A_RUN):
        return None
    from tasks.engine.deploy.run_hooks import RunHooks

    run = members[0].run
    about = {
        "action": action,
        "service": described.name,
        "run": run.id,
        "who": json.loads(run.who),
        "inventory": str(project.inventory.path),
        "release": release.id if release else None,
        "commit": release.commit if release else None,
        "dirty": bool(release.dirty) if release else None,
    }
    return RunHooks(described.hooks, project.root, about)
