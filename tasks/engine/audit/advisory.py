"""Read an advisory in the form of OSV, and tell which versions of a package it names. Pure.

An advisory is a stranger's text: ValueError for one that is not in this form. https://ossf.github.io/osv-schema
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from packaging.utils import canonicalize_name
from packaging.version import Version

ECOSYSTEM = "PyPI"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]{0,99}")
_PACKAGE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,198}[A-Za-z0-9])?")
_EVENTS = ("introduced", "fixed", "last_affected", "limit")
_ORDERED = ("ECOSYSTEM", "SEMVER")
"""The kinds of ranges that order versions; those of GIT have commits."""
_LONGEST, _SHOWN = 200, 300
"""Characters of a version that may be one, and of a summary that are kept."""
_MOST = 2_000_000
"""Texts of all advisories that are kept: of real ones the largest services have some hundred thousand."""
_PARSED = 10
"""Texts that take as much memory as an event, whose version is parsed."""


class Event(NamedTuple):
    """An event of a range. kind: one of _EVENTS; version: its text, and None for one before all others."""

    kind: str
    text: str
    version: Version | None


class Affected(NamedTuple):
    """The versions of one package: those that are listed, and those in ranges."""

    versions: frozenset[str]
    ranges: tuple[tuple[Event, ...], ...]

    def has(self, version: str) -> bool:
        """Return whether a version is affected."""
        mine = _version(version)
        public = mine and Version(mine.public)
        listed = version in self.versions or any(public == _version(text) for text in self.versions if public)
        return listed or any(_in_range(events, mine) for events in self.ranges)

    def fixed(self, version: str) -> tuple[str, ...]:
        """Return the versions that end the ranges which contain this one."""
        mine = _version(version)
        ranges = [events for events in self.ranges if _in_range(events, mine)]
        ends = {event for events in ranges for event in events if event.kind == "fixed" and _less(mine, event.version)}
        return tuple(event.text for event in sorted(ends, key=_order))


class Advisory(NamedTuple):
    """An advisory. names: its id and its aliases, CVEs first; affected: by the canonical name of the package."""

    names: tuple[str, ...]
    summary: str
    affected: Mapping[str, tuple[Affected, ...]]

    @property
    def weight(self) -> int:
        """The memory that it takes, as a number of texts."""
        entries = [entry for found in self.affected.values() for entry in found]
        events = sum(1 + len(events) for entry in entries for events in entry.ranges)
        return len(self.names) + sum(1 + len(entry.versions) for entry in entries) + _PARSED * events


class Room:
    """The room for advisories of one database: a megabyte of them takes up to 17 in memory, and two kB in a zip."""

    def __init__(self) -> None:
        self._left = _MOST

    def keep(self, found: Advisory | None) -> Advisory | None:
        """Return the advisory; ValueError if there is no room for it, or was none for the one before."""
        self._left -= found.weight if found else 0
        if self._left < 0:
            raise ValueError("all of them together name more versions of these packages than any real ones")
        return found


def read(record: object, wanted: Collection[str]) -> Advisory | None:
    """Return the advisory; None if it was withdrawn, or names none of the wanted packages."""
    value = _mapping(record)
    if not isinstance(name := value.get("id"), str):
        raise ValueError("it has no id")
    aliases = [_text(one) for one in _items(value.get("aliases"))]
    affected: dict[str, list[Affected]] = {}
    for item in _items(value.get("affected")):
        entry = _mapping(item)
        package = _package(entry)
        if package in wanted:
            affected.setdefault(package, []).append(_affected(entry))
    if not affected or value.get("withdrawn"):
        return None
    names = sorted({name, *aliases}, key=lambda one: (not one.startswith("CVE-"), one))
    if not all(map(_NAME.fullmatch, names)):
        raise ValueError(f"it has an impossible name: {next(one for one in names if not _NAME.fullmatch(one))[:100]!r}")
    return Advisory(tuple(names), _summary(value), {package: tuple(found) for package, found in affected.items()})


def is_of_python(record: object) -> bool:
    """Return whether an advisory names a package of PyPI."""
    items = record.get("affected") if isinstance(record, dict) else None
    return isinstance(items, list) and any(isinstance(item, dict) and _package(item) for item in items)


def modified(record: object) -> str:
    """Return the day of its last change, YYYY-MM-DD; empty if it has none."""
    day = record.get("modified") if isinstance(record, dict) else None
    return day[:10] if isinstance(day, str) and re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", day) else ""


def _package(entry: Mapping[str, Any]) -> str:
    """Return the canonical name of the package; empty if it is none of PyPI."""
    package = entry.get("package")
    if not isinstance(package, dict) or str(package.get("ecosystem")).partition(":")[0] != ECOSYSTEM:
        return ""
    name = package.get("name")
    if not isinstance(name, str) or not _PACKAGE.fullmatch(name):
        raise ValueError(f"it names a package of an impossible name: {str(name)[:100]!r}")
    return canonicalize_name(name)


def _affected(entry: Mapping[str, Any]) -> Affected:
    versions = frozenset(_text(one) for one in _items(entry.get("versions")))
    ranges = [_mapping(one) for one in _items(entry.get("ranges"))]
    return Affected(versions, tuple(tuple(_events(one)) for one in ranges if one.get("type") in _ORDERED))


def _events(found: Mapping[str, Any]) -> Iterator[Event]:
    for item in _items(found.get("events")):
        for kind, text in _mapping(item).items():
            if kind in _EVENTS:
                yield Event(kind, _text(text), None if text == "0" else _version(text))


def _in_range(events: tuple[Event, ...], version: Version | None) -> bool:
    """Return whether the events, in the order of their versions, leave this version affected."""
    affected = False
    limits = [event.version for event in events if event.kind == "limit" and event.text != "*"]
    for event in sorted(events, key=_order):
        reached = not _less(version, event.version)
        passed = _less(event.version, version)
        if event.kind == "introduced" and reached:
            affected = True
        elif (event.kind == "fixed" and reached) or (event.kind == "last_affected" and passed):
            affected = False
    return affected and (not limits or any(_less(version, limit) for limit in limits))


def _order(event: Event) -> tuple[bool, Version]:
    return event.version is not None, event.version or Version("0")


def _less(one: Version | None, other: Version | None) -> bool:
    return other is not None and (one is None or one < other)


def _version(text: str) -> Version | None:
    """Return the version; None for a text that is none, as a few old releases have: it sorts before all others."""
    try:
        return Version(text) if len(text) <= _LONGEST else None
    except ValueError:
        return None


def _summary(value: Mapping[str, Any]) -> str:
    text = value.get("summary") or value.get("details") or ""
    return " ".join(_text(text)[: 4 * _SHOWN].split())[:_SHOWN]


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    return value


def _items(value: object) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError("expected a list")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a text")
    return value
