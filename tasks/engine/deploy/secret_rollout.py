"""Bring secrets to hosts, restart what uses them by the ordinary switch, and put back what does not hold."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tasks.engine import untrusted_json
from tasks.engine.config.sections import FALLBACKS, SECRET_KEY
from tasks.engine.deploy.prepared import Progress
from tasks.engine.deploy.rollout import Rollout, everywhere
from tasks.engine.deploy.secret_step import Order, perform
from tasks.engine.deploy.waves import Policy
from tasks.engine.errors import LoopError
from tasks.engine.events import Event, Line, Notice
from tasks.engine.fleet.member import Member
from tasks.engine.host import questions, reported_names, typed
from tasks.engine.host.facts import Facts
from tasks.engine.host.steps import Change
from tasks.engine.parallel import Emit, Stop

_KEY = 32
"""Bytes of the key of a listing."""


def change(
    order: Order, members: Sequence[Member], policy: Policy, stop: Stop, again: Callable[[Sequence[str]], str]
) -> Iterator[Event]:
    """Write the value on all hosts; restart, in waves, those where it is used by a release that `_running` returns."""
    users: list[Member] = []
    secret = order.named_secret

    def look(member: Member, emit: Emit) -> None:
        facts = _facts(member)
        used = any(secret in facts.secrets_of(release) for release in _running(facts))
        if used and facts.state.main_unit == "active":
            users.append(member)
            return
        changed = order.place(member, emit, switch=False)
        text = f"{secret}; nothing that runs uses it" if changed else f"{secret} has this value already"
        member.finish(emit, "set" if changed else "unchanged", text)

    yield from everywhere(members, look, stop)
    failed = [member.host.name for member in members if member.error]
    if failed and users:
        yield Notice("no host was restarted, since some failed; without them:", again(failed))
    elif users and not stop:
        ordered = [member for member in members if member in users]
        yield from _Restart("restart", ordered, policy, stop, again, order=order).reactivate(None)


@dataclass
class _Restart(Rollout):
    """A restart of each host right after it got a new value.

    placed: hosts that may have the new value, and keep the former one beside it
    """

    order: Order = field(kw_only=True)
    placed: list[Member] = field(default_factory=list)

    def _activate(self, member: Member, emit: Emit) -> None:
        # Even if the link is lost, the host may have the value.
        self.placed.append(member)
        if not self.order.place(member, emit, switch=True):
            self.placed.remove(member)
            self._put(self.hosts[member.host.name], Progress.UNCHANGED)
            member.finish(emit, "unchanged", f"{self.order.named_secret} has this value already")
            return
        super()._activate(member, emit)

    def _waves(self) -> Iterator[Event]:
        yield from super()._waves()
        yield from everywhere(self.placed, self._settle)

    def _settle(self, member: Member, emit: Emit) -> None:
        """Let the host drop the former value if this run saw the commit; else the host decides by what is committed."""
        committed = self.hosts[member.host.name].progress is Progress.COMMITTED
        try:
            perform(member, Change("settle", committed=committed), self.order.origin, emit)
        except LoopError as error:
            if member.error is None:
                raise
            text = f"whether the former value of {self.order.named_secret} is back is unknown: {error.message}"
            emit(Line(member.host.name, f"{text}; a boot puts it back unless the restart was committed", "warning"))


def rotate(
    origin: str, members: Sequence[Member], policy: Policy, stop: Stop, again: Callable[[Sequence[str]], str]
) -> Iterator[Event]:
    """Replace SECRET_KEY on all hosts in two rolling restarts: all accept the new one, and then all sign with it.

    With one restart alone, a host that has the new key would sign what a host without it rejects.
    """
    keys = _Keys(origin)
    yield from everywhere(members, keys.look, stop)
    if stop or any(member.error for member in members):
        return
    behind = keys.behind(members)
    if not behind:
        yield Notice("1 of 2: every host accepts the new key")
        accept = Order(Change("set", FALLBACKS), origin, secrets.token_hex(_KEY).encode())
        yield from change(accept, members, policy, stop, again)
        if stop or any(member.error for member in members):
            yield Notice("every host still signs with the former key; to rotate it:", again(()))
            return
    yield Notice("2 of 2: every host signs with the new key, and accepts the former one")
    for member in members:
        # The first restart has closed the connections.
        member.session = None
    yield from change(Order(Change("swap", SECRET_KEY), origin), behind or members, policy, stop, again)


class _Keys:
    """The fingerprints of both keys on each host, and the age of the one that signs."""

    def __init__(self, origin: str) -> None:
        self._list = listing(origin)
        self._found: dict[str, dict[str, dict[str, Any]]] = {}

    def look(self, member: Member, _: Emit) -> None:
        """Ask one host; raise LoopError if it has no key to rotate."""
        rows = {row["name"]: row for row in self._list(member) if row["there"]}
        if SECRET_KEY not in rows:
            name = member.host.name
            raise LoopError(
                f"{SECRET_KEY} is not on this host", where=name, next=f"fab deploy -H {name}", code="secrets"
            )
        self._found[member.host.name] = rows

    def behind(self, members: Sequence[Member]) -> list[Member]:
        """Return the hosts where a rotation that was cut short has not come to its second restart; often none.

        They accept the key of the others, and got it after the one that they sign with. Each host is judged by its own
        report alone, so a host that lies cannot make the others sign with a former key.
        """
        signing = {name: rows[SECRET_KEY]["fingerprint"] for name, rows in self._found.items()}
        for key in sorted(set(signing.values())):
            others = [member for member in members if signing[member.host.name] != key]
            if all(self._waits_for(member.host.name, key) for member in others):
                return others
        names = " and ".join(f"{name} ({key[:4]})" for name, key in sorted(signing.items()))
        raise LoopError(
            f"{SECRET_KEY} is not the same one on {names}, so no rotation can keep all sessions",
            next=f"look for who changed it; give all hosts the same one: fab secrets.set {SECRET_KEY} -H all",
            code="secrets",
        )

    def _waits_for(self, host: str, key: str) -> bool:
        """Return whether a host accepts a key, and got it after the one that it signs with."""
        rows = self._found[host]
        other = rows.get(FALLBACKS)
        return bool(other and other["fingerprint"] == key and other["since"] > rows[SECRET_KEY]["since"])


def unset(secret: str, origin: str, member: Member, emit: Emit) -> None:
    """Remove a secret from a host, unless a release uses it that serves or would after a boot; warn of others."""
    facts, name = _facts(member), member.host.name
    if users := [release for release in _running(facts) if secret in facts.secrets_of(release)]:
        raise LoopError(
            f"release {users[0]}, which serves or would after a boot, uses the secret {secret}",
            where=name,
            next=f"deploy a release without it first: remove {secret} from `secrets` of service.yaml",
            code="in-use",
        )
    kept = facts.releases_with(secret)
    if kept:
        text = f"{', '.join(kept)} kept here use {secret}: a rollback to them is refused while it is gone"
        emit(Line(name, text, "warning"))
    gone = perform(member, Change("unset", secret), origin, emit).last("secret") == "removed"
    text = f"{secret}; the units name it until: fab setup -H {name}" if gone else f"{secret} is not on this host"
    member.finish(emit, "unset" if gone else "unchanged", text)


def listing(origin: str) -> Callable[[Member], list[dict[str, Any]]]:
    """Return a question for each host: its secrets, with fingerprints by a key that is made now and kept nowhere."""
    key = secrets.token_bytes(_KEY)

    def ask(member: Member) -> list[dict[str, Any]]:
        found = perform(member, Change("list"), origin, lambda _: None, (key,)).all("secret")
        rows = [_row(line, member.host.name) for line in found]
        there = {row["name"] for row in rows}
        named = {secret.name for secret in member.service.secrets}
        rows += [{"name": name, "there": False} for name in sorted(named - there)]
        if SECRET_KEY in named:
            named.add(FALLBACKS)
        return [{**row, "named": row["name"] in named} for row in rows]

    return ask


class _Listed(NamedTuple):
    """A secret, as a host reports it. since: seconds since 1970; changing: a change of it is not committed."""

    name: str
    since: int
    changing: bool
    fingerprint: str


def _row(line: str, host: str) -> dict[str, Any]:
    """Return what a host reports of one secret, checked."""
    try:
        listed = typed.read(_Listed, untrusted_json.load(line))
        if not (
            re.fullmatch(reported_names.VARIABLE, listed.name) and re.fullmatch("[0-9a-f]{12}", listed.fingerprint)
        ):
            raise ValueError(line)
    except ValueError as error:
        raise LoopError("the host lists its secrets in an impossible way", where=host, code="lies") from error
    return {**listed._asdict(), "there": True}


def _running(facts: Facts) -> list[str]:
    """Return the release that serves, and the one that a boot would start."""
    return [release for release in dict.fromkeys((facts.live_release, facts.committed_release)) if release]


def _facts(member: Member) -> Facts:
    facts = member.ask(questions.state())
    member.accept(facts)
    return facts
