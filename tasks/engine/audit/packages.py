"""List the packages of an audit: those that the locks pin, and those of the releases that run on a host."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from packaging.utils import canonicalize_name

from tasks.engine.audit.findings import Package
from tasks.engine.errors import LoopError, UsageError
from tasks.engine.host.facts import Facts
from tasks.engine.release import lockfile, requirement_lines
from tasks.engine.release.lockfile import Lock

OWN_LOCK = "requirements-dev.lock"
"""The lock of the packages of `fab` itself."""
_PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,99})==([A-Za-z0-9][A-Za-z0-9.!+_-]{0,99})")
_MOST = 5000
"""Packages of a release that are read; the record of one has 64 kB."""


def locked(lock: Lock, name: str) -> tuple[Package, ...]:
    """Return the packages of a lock, with its name and the lines as places."""
    return tuple(Package(entry.name, entry.version, f"{name}:{entry.line}") for entry in lock.entries)


def own(root: Path) -> tuple[Package, ...]:
    """Return the packages that `make setup` installs; none in a clone without their lock."""
    path = root / OWN_LOCK
    if not path.exists():
        return ()
    try:
        return locked(lockfile.parse(requirement_lines.content(path).decode(), path, None), OWN_LOCK)
    except (UsageError, UnicodeDecodeError) as error:
        message = error.message if isinstance(error, UsageError) else "it is not UTF-8"
        raise UsageError(
            f"the lock of fab itself cannot be read: {message}", where=OWN_LOCK, next="make lock"
        ) from None


def running(host: str, facts: Facts) -> tuple[tuple[Package, ...], tuple[str, ...]]:
    """Return the packages of the releases that have the traffic or would after a boot; and remarks on the host.

    Raise LoopError for a release that has a package twice: it could have as many findings as the host likes.
    """
    releases = dict.fromkeys(filter(None, (facts.live_release, facts.committed_release)))
    if not releases:
        return (), (f"{host}: nothing is deployed there",)
    found: list[Package] = []
    remarks = []
    for release in releases:
        record = next((one for one in facts.releases if one.get("id") == release), {})
        listed = [(canonicalize_name(name), version) for name, version in _listed(record)]
        if len({name for name, _ in listed}) < len(listed):
            raise LoopError(
                f"the host lists a package of release {release} twice, which is impossible",
                where=host,
                next=f"look at release.json there: fab shell -H {host}",
                code="lies",
            )
        found += [Package(name, version, f"{host} (release {release})") for name, version in listed]
        if not listed:
            remarks.append(f"{host}: release {release} has no list of its packages; the next deploy brings one")
    return tuple(found), tuple(remarks)


def _listed(record: Mapping[str, object]) -> list[tuple[str, str]]:
    listed = record.get("packages")
    texts = [text for text in listed[:_MOST] if isinstance(text, str)] if isinstance(listed, list) else []
    return [(match[1], match[2]) for match in map(_PINNED.fullmatch, texts) if match]
