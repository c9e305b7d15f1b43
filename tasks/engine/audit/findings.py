"""Compare packages with advisories: findings, those that service.yaml ignores, and ignores that do nothing. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tasks.engine.audit.advisory import Advisory
from tasks.engine.config.audit import Ignored


class Package(NamedTuple):
    """A package at a version, by canonical name. place: where it is, such as a line of a lock, or a host."""

    name: str
    version: str
    place: str


class Finding(NamedTuple):
    """A known vulnerability of a package. names: of its advisories, CVEs first; ignored: None if it counts.

    fixed: versions without it; places: where the package is
    """

    package: str
    version: str
    names: tuple[str, ...]
    summary: str
    fixed: tuple[str, ...]
    places: tuple[str, ...]
    ignored: Ignored | None = None

    def as_dict(self) -> dict[str, object]:
        """Return plain data for JSON."""
        ignored = self.ignored._asdict() if self.ignored else None
        return {"package": self.package, "version": self.version, "id": self.names[0], "names": list(self.names),
                "summary": self.summary, "fixed": list(self.fixed), "places": list(self.places),
                "ignored": ignored}  # fmt: skip


def find(
    packages: Iterable[Package], advisories: Iterable[Advisory], ignored: Iterable[Ignored], today: str
) -> tuple[Finding, ...]:
    """Return the findings, those that count first. Advisories that share a name are one. today: YYYY-MM-DD."""
    by_package: dict[str, list[Advisory]] = {}
    for one in advisories:
        for name in one.affected:
            by_package.setdefault(name, []).append(one)
    still = {one.id: one for one in ignored if today <= one.until}
    found = [
        finding._replace(ignored=next((still[name] for name in finding.names if name in still), None))
        for (name, version), places in _places(packages).items()
        for finding in _of(name, version, places, by_package.get(name, ()))
    ]
    return tuple(sorted(found, key=lambda one: (one.ignored is not None, one.package, one.version, one.names)))


def _places(packages: Iterable[Package]) -> Mapping[tuple[str, str], tuple[str, ...]]:
    places: dict[tuple[str, str], dict[str, None]] = {}
    for name, version, place in packages:
        places.setdefault((name, version), {})[place] = None
    return {package: tuple(found) for package, found in places.items()}


def _of(name: str, version: str, places: tuple[str, ...], advisories: Iterable[Advisory]) -> Iterator[Finding]:
    """Yield a finding for each vulnerability of one package, of which several sources may have an advisory."""
    affecting = [(one, entries) for one in advisories
                 if (entries := [entry for entry in one.affected[name] if entry.has(version)])]  # fmt: skip
    for group in _groups([one for one, _ in affecting]):
        names = {known for at in group for known in affecting[at][0].names}
        fixed = dict.fromkeys(text for at in group for entry in affecting[at][1] for text in entry.fixed(version))
        summary = next(filter(None, (affecting[at][0].summary for at in group)), "")
        ordered = sorted(names, key=lambda known: (not known.startswith("CVE-"), known))
        yield Finding(name, version, tuple(ordered), summary, tuple(fixed), places)


def _groups(advisories: Sequence[Advisory]) -> Iterable[Sequence[int]]:
    """Return the places of those that share a name, directly or by others. A database may have half a million."""
    above = list(range(len(advisories)))

    def top(place: int) -> int:
        while above[place] != place:
            above[place] = above[above[place]]
            place = above[place]
        return place

    first: dict[str, int] = {}
    for place, one in enumerate(advisories):
        for name in one.names:
            above[top(place)] = top(first.setdefault(name, place))
    groups: dict[int, list[int]] = {}
    for place in range(len(advisories)):
        groups.setdefault(top(place), []).append(place)
    return groups.values()


def idle(ignored: Iterable[Ignored], found: Iterable[Finding], today: str) -> Iterator[str]:
    """Yield a sentence for each ignore that has ended, or that names no finding."""
    names = {name for finding in found for name in finding.names}
    for one in ignored:
        if one.id not in names:
            yield f"audit.ignore names {one.id}, which was not found: remove it, if all hosts were asked"
        elif one.until < today:
            yield f"the ignore of {one.id} ended on {one.until}, so it counts again: {one.reason}"
