"""`fab secrets.set`, `.list`, `.unset`, `.rotate`: secrets of the service, which stand in no file of the repository."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tasks.engine.errors import UsageError
from tasks.executor import ROOT, invocation, verb

if TYPE_CHECKING:
    from tasks.engine.config.service import Secret
    from tasks.engine.fleet.member import Member

_AS = "account to log in as: root, where the deploy account has only the exact sudo rules"


@verb(
    name="set",
    secret="name of the secret, as in `secrets` of service.yaml",  # noqa: S106 - a help text
    from_="command that prints the value, such as 'pass show myapp/token'; run without a shell",
    as_=_AS,
)
def put(c: Any, secret: str, from_: str = "", as_: str = "", json: bool = False) -> None:
    """Bring a secret to the hosts; restart what uses it.

    Takes the value from a prompt, from standard input or from a command. Needs
    root, as setup does, and works before the first setup.
    """
    from tasks import runner, secret_value
    from tasks.engine.deploy import secret_rollout, waves
    from tasks.engine.deploy.secret_step import Order
    from tasks.engine.host.steps import Change
    from tasks.engine.release import git

    _, members = runner.open_fleet(c, changing="secrets.set", user=as_ or None)
    value = secret_value.read(_named(members, secret), from_)
    order = Order(Change("set", secret), git.origin(ROOT), value)
    policy = waves.Policy(wait=True)
    again = _again(c, f"secrets.set {secret}")
    runner.follow(members, lambda stop: secret_rollout.change(order, members, policy, stop, again), json)


def _again(c: Any, verb: str) -> Callable[[Sequence[str]], str]:
    from tasks.engine import quote

    def command(excluded: Sequence[str]) -> str:
        hosts = ",".join([invocation(c).hosts or "all", *(f"-{host}" for host in excluded)])
        return f"fab {verb} -H {quote.shell(hosts)}"

    return command


def _named(members: Sequence[Member], name: str) -> Secret:
    """Return the secret of this name; raise UsageError if the service of a host has none."""
    from tasks.engine.config.schema import nearest, quoted

    found = None
    for member in members:
        known = {secret.name: secret for secret in member.service.secrets}
        if name not in known:
            meant = nearest(name, known.keys())
            raise UsageError(
                f"`secrets` of service.yaml has no {quoted(name)} for {member.host.name}",
                where=name,
                next=f"did you mean {meant}?" if meant else f"write into service/service.yaml: secrets: [{name}]",
            )
        found = known[name]
    assert found
    return found


@verb(name="list", as_=_AS)
def listing(c: Any, as_: str = "", json: bool = False) -> None:
    """List the secrets on the hosts, without their values.

    Secrets with the same fingerprint are the same. The fingerprints of the next
    listing are others. Exits with 1 if a host lacks one. Needs root.
    """
    from tasks import runner
    from tasks.engine.deploy import secret_rollout
    from tasks.engine.release import git

    _, members = runner.open_fleet(c, user=as_ or None)
    found = runner.ask(members, secret_rollout.listing(git.origin(ROOT)))
    hosts = [{"host": name, "secrets": rows} for name, rows in found.items()]
    lacking = any(not row["there"] for rows in found.values() for row in rows)
    runner.answer(members, hosts, _lines(found), json=json, bad=lacking)


def _lines(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    from tasks.engine.report import output

    rows = [
        (row["name"], host, _age(row["since"]) if row["there"] else "-", row.get("fingerprint", "-"), _remark(row))
        for host, rows in found.items()
        for row in rows
    ]
    if rows:
        yield from output.table([("secret", "host", "set", "fingerprint", ""), *sorted(rows)])
    else:
        yield "no secrets: name them in `secrets` of service/service.yaml"


def _age(since: int) -> str:
    from tasks.engine.diagnose import status

    return f"{status.duration(max(0, int(time.time()) - since))} ago"


def _remark(row: dict[str, Any]) -> str:
    if not row["there"]:
        return "MISSING"
    if row["changing"]:
        return "its change was cut short: set it again"
    return "" if row["named"] else "not in service.yaml"


@verb(secret="name of the secret", as_=_AS)  # noqa: S106 - a help text
def unset(c: Any, secret: str, as_: str = "", json: bool = False) -> None:
    """Remove a secret from the hosts, unless what serves uses it.

    Needs root.
    """
    from tasks import runner
    from tasks.engine.deploy import secret_rollout
    from tasks.engine.release import git

    _, members = runner.open_fleet(c, changing="secrets.unset", user=as_ or None)
    _check(secret)
    origin = git.origin(ROOT)
    runner.follow_each(members, lambda member, emit: secret_rollout.unset(secret, origin, member, emit), json)


@verb(secret="SECRET_KEY", as_=_AS)  # noqa: S106 - a help text
def rotate(c: Any, secret: str, as_: str = "", json: bool = False) -> None:
    """Replace SECRET_KEY on all hosts, losing no session.

    Two rolling restarts: first every host accepts the new key, then every host
    signs with it. Cut short, it goes on when it runs again. Needs root.
    """
    from tasks import runner
    from tasks.engine.config.sections import SECRET_KEY
    from tasks.engine.deploy import secret_rollout, waves
    from tasks.engine.release import git

    if secret != SECRET_KEY:
        fix = f"let what takes {secret}, such as a database, accept the new value; then: fab secrets.set {secret}"
        raise UsageError("only SECRET_KEY can be rotated", where=secret, next=fix)
    _, members = runner.open_fleet(c, changing="secrets.rotate", user=as_ or None)
    _named(members, secret)
    origin, policy, again = git.origin(ROOT), waves.Policy(wait=True), _again(c, f"secrets.rotate {secret}")
    runner.follow(members, lambda stop: secret_rollout.rotate(origin, members, policy, stop, again), json)


def _check(secret: str) -> None:
    from tasks.engine.config import formats

    if not formats.VARIABLE.fits(secret):
        raise UsageError(
            f"expected {formats.VARIABLE.expected}, found {secret!r}", where=secret, next="fab secrets.list"
        )
