"""Do the same work on all hosts at once; the member of a host that fails carries its error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from tasks.engine import misread
from tasks.engine.errors import LoopError
from tasks.engine.fleet.member import Member
from tasks.engine.parallel import gather, pool

_Item = TypeVar("_Item")


def on_each(
    members: Sequence[Member],
    work: Callable[[Member, Callable[[_Item], None]], None],
    weigh: Callable[[_Item], int] = lambda _: 0,
) -> Iterator[_Item]:
    """Yield the items of the work on all hosts as they come. A failed member gets its error, with its host as place.

    weigh: returns the bytes of memory of an item. A host's connection is closed after its work.
    """

    def guarded(member: Member, emit: Callable[[_Item], None]) -> None:
        try:
            with misread.as_error_of(member.host.name):
                work(member, emit)
        except LoopError as error:
            error.where = error.where or member.host.name
            member.error = error
        finally:
            member.close()

    with pool(len(members)) as executor:
        yield from gather([partial(guarded, member) for member in members], executor, weigh)
