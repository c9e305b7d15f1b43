"""Make SECRET_KEY where a service names it: one key for all hosts, made once and kept on them alone."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable, Sequence

from tasks.engine.config.sections import SECRET_KEY
from tasks.engine.config.service import Service
from tasks.engine.deploy.secret_step import Order, flaw_of_key, perform
from tasks.engine.errors import LoopError
from tasks.engine.events import Step
from tasks.engine.fleet.each import on_each
from tasks.engine.fleet.member import Member
from tasks.engine.host import questions
from tasks.engine.host.facts import Facts
from tasks.engine.host.steps import Change
from tasks.engine.parallel import Emit

_BYTES = 32


class SigningKey:
    """The key of one run: that of a host that has one, else a new one. The first host that lacks it asks the others.

    beside: returns a member for each host that has the same key as the named one, by the inventory
    origin: returns the git remote of this clone, or empty
    """

    def __init__(self, beside: Callable[[str], Sequence[Member]], origin: Callable[[], str]) -> None:
        self._beside, self._origin = beside, origin
        self._lock = threading.Lock()
        # By the names of the hosts that have the key.
        self._found: dict[tuple[str, ...], tuple[bytes, str]] = {}

    @staticmethod
    def lacking(service: Service, facts: Facts) -> bool:
        """Return whether the service names the key, and the host lacks it."""
        return SECRET_KEY in {secret.name for secret in service.secrets} and bool(facts.lacking([SECRET_KEY]))

    def bring(self, member: Member, emit: Emit) -> None:
        """Write the key on a host that lacks it; LoopError if a host that may have one does not answer."""
        name = member.host.name
        with self._lock:
            everyone = [one for one in self._beside(name) if one.service.name == member.service.name]
            names = tuple(one.host.name for one in everyone)
            if names not in self._found:
                self._found[names] = self._look(member, everyone)
            value, whence = self._found[names]
        emit(Step(name, "plan", "secret", f"{SECRET_KEY}, {whence}"))
        try:
            Order(Change("set", SECRET_KEY), self._origin(), value).place(member, emit, switch=False)
        except LoopError as error:
            if error.code == "rights":
                error.next = f"fab setup -H {name} --as root, which brings the key"
            raise

    def _look(self, asking: Member, everyone: Sequence[Member]) -> tuple[bytes, str]:
        """Return the key, and where it comes from."""
        having: set[str] = set()

        def look(member: Member, _: Callable[[None], None]) -> None:
            if SECRET_KEY in member.ask(questions.state()).record.secrets:
                having.add(member.host.name)
                keys.setdefault(member.host.name, self._read(member))

        keys: dict[str, bytes] = {}
        for _ in on_each(everyone, look):
            pass
        having_it = [one.host.name for one in everyone if one.host.name in keys]
        if len({keys[one] for one in having_it}) > 1:
            raise self._different(asking.host.name, having_it)
        if having_it:
            return keys[having_it[0]], f"as on {having_it[0]}"
        silent = [one for one in everyone if one.error]
        for one in silent:
            if one.error and one.error.code == "lies" and one.host.name in having:
                raise one.error
        if silent:
            raise self._unknown(asking.host.name, silent, having)
        return secrets.token_hex(_BYTES).encode(), "made now"

    def _read(self, member: Member) -> bytes:
        sent = perform(member, Change("read", SECRET_KEY), self._origin(), lambda _: None).last("value") or ""
        value = bytes.fromhex(sent) if re.fullmatch(r"([0-9a-f]{2})+", sent) else b""
        if why := flaw_of_key(value):
            raise LoopError(
                f"the host's {SECRET_KEY} was sent to no other host: {why}",
                where=member.host.name,
                next=f"look for who changed it there; give all hosts one: fab secrets.set {SECRET_KEY} -H all",
                code="lies",
            )
        return value

    @staticmethod
    def _different(host: str, others: Sequence[str]) -> LoopError:
        """Return the error for hosts of which one may lie, or where a rotation was cut short."""
        return LoopError(
            f"{SECRET_KEY} is not on this host, and not the same one on {', '.join(others)}",
            where=host,
            next=f"fab secrets.rotate {SECRET_KEY}, if a rotation was cut short; or look for who changed it, and give "
            f"all hosts one: fab secrets.set {SECRET_KEY} -H all",
            code="secrets",
        )

    @staticmethod
    def _unknown(host: str, silent: Sequence[Member], having: set[str]) -> LoopError:
        """Return the error for a key that may exist: a second one would end the sessions of the first."""
        names = ", ".join(one.host.name for one in silent)
        has = "has" if having else "may have"
        return LoopError(
            f"{SECRET_KEY} is not on this host, and {names}, which {has} one, did not tell it",
            where=host,
            next=f"run it again when they answer; or give all hosts one: fab secrets.set {SECRET_KEY} -H all",
            code="secrets",
            detail=tuple(f"{one.host.name}: {one.error.message}" for one in silent if one.error),
        )
