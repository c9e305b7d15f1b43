"""Change the secrets of one host."""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks.engine.config.sections import FALLBACKS, SECRET_KEY
from tasks.engine.fleet.member import Member
from tasks.engine.host import steps
from tasks.engine.host.protocol import Transcript
from tasks.engine.host.steps import Change
from tasks.engine.parallel import Emit
from templates.host.key_form import MOST, is_key

_MOST_OF_VARIABLE = 100_000
"""Bytes of a variable: Linux takes 128 KiB of one, its name included."""


@dataclass(frozen=True)
class Order:
    """A change on its way to hosts. origin: git remote of this clone, or empty; value: of `set` alone."""

    change: Change
    origin: str
    value: bytes = field(default=b"", repr=False)

    @property
    def named_secret(self) -> str:
        """The secret that a release names."""
        return SECRET_KEY if self.change.secret == FALLBACKS else self.change.secret

    def place(self, member: Member, emit: Emit, *, switch: bool) -> bool:
        """Make the change on a host; return True if something changed, or if processes may have another value.

        switch: a restart follows.
        """
        sent = (f"{len(self.value)}\n".encode(), self.value) if self.value else ()
        return perform(member, self.change._replace(switch=switch), self.origin, emit, sent).last("secret") != "same"


def flaw(value: bytes) -> str:
    """Return why no variable can have this value; empty if one can."""
    if value in {b"", b"\n"}:
        return "the value is empty"
    if b"\0" in value:
        return "the value has a NUL byte, which no variable can have"
    return f"the value has more than {_MOST_OF_VARIABLE} bytes" if len(value) > _MOST_OF_VARIABLE else ""


def flaw_of_key(value: bytes) -> str:
    """Return why SECRET_KEY cannot have this value; empty if it can."""
    return flaw(value) or ("" if is_key(value) else f"a key is one line of printable text, of at most {MOST} bytes")


def perform(member: Member, change: Change, origin: str, emit: Emit, payload: tuple[bytes, ...] = ()) -> Transcript:
    """Perform one action on the secrets of a host."""
    return member.perform(steps.secret(member.service, change, origin), emit, payload)
