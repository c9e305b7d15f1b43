"""Select hosts by an expression such as `web,-shire03`. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from tasks.engine.config.schema import nearest, quoted
from tasks.engine.errors import UsageError

if TYPE_CHECKING:
    from tasks.engine.config.inventory import Host, Inventory


class Selection(NamedTuple):
    """The selected hosts, in the order of the inventory. expression: as the user gave it, or None."""

    hosts: tuple[Host, ...]
    expression: str | None


def select(inventory: Inventory, expression: str | None) -> Selection:
    """Return the hosts that the expression selects; None selects all.

    Comma-separated: host names, group names, globs over host names (* ? [..]), `all`, and any of these with a leading
    `-` to exclude them; exclusions alone select all other hosts. Raises UsageError for a word that matches no host (so
    that a mistyped exclusion never widens a run) and for an empty result.
    """
    if not inventory.hosts and not inventory.sandbox:
        raise UsageError(
            f"there is no host in {inventory.label}",
            where=inventory.label,
            next="add one below `hosts:`, or try on local hosts: fab sandbox.up",
        )
    words = [word.strip() for word in ("all" if expression is None else expression).split(",")]
    if not all(word.removeprefix("-") for word in words):
        raise UsageError(f"-H {quoted(expression or '')} has an empty name in it", where="-H", next="fab hosts")
    wanted = _union(inventory, (word for word in words if not word.startswith("-")))
    unwanted = _union(inventory, (word[1:] for word in words if word.startswith("-")))
    if all(word.startswith("-") for word in words):
        wanted = {host.name for host in inventory.hosts}
    hosts = tuple(host for host in (*inventory.hosts, *inventory.sandbox) if host.name in wanted - unwanted)
    if not hosts:
        raise UsageError(f"-H {quoted(expression or 'all')} leaves no host", where="-H", next="fab hosts")
    return Selection(hosts, expression)


def _union(inventory: Inventory, words: Iterable[str]) -> set[str]:
    return {name for word in words for name in _meaning(inventory, word)}


def _meaning(inventory: Inventory, word: str) -> list[str]:
    """Return the names of the hosts that one word selects, at least one."""
    names = [host.name for host in inventory.hosts]
    local = [host.name for host in inventory.sandbox]
    if word == "all":
        return names
    if word in (*names, *local):
        return [word]
    if word in inventory.groups:
        return [host.name for host in inventory.groups[word]]
    if matched := [name for name in names if fnmatchcase(name, word)]:
        return matched
    meant = nearest(word, [*names, *local, *inventory.groups, "all"])
    fix = f"did you mean '{meant}'?" if meant else "see what there is: fab hosts"
    raise UsageError(f"{quoted(word)} is no host or group of {inventory.label}", where="-H", next=fix)
