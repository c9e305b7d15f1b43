"""The series measured: each contender does each action in turn, round after round; the median counts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.contenders import Contender
from tests.bench.ground import Ground
from tests.bench.measure import Cost, run
from tests.bench.service import Answers


@dataclass(frozen=True)
class Series:
    """One table. round_trip: seconds added; rate: bytes a second; peers: all contenders take part."""

    title: str
    actions: tuple[str, ...]
    hosts: int = 1
    round_trip: float = 0.0
    rate: float = float("inf")
    peers: bool = True

    @property
    def direct(self) -> bool:
        """Return true if the link to the hosts is neither delayed nor limited."""
        return self.round_trip == 0 and self.rate == float("inf")


ALL = ("first", "none", "code", "dependency", "rollback", "restart", "status")
SERIES: Mapping[str, Series] = {
    "near": Series("One host", ALL),
    "50ms": Series("One host, 50 ms away", ("none", "code"), round_trip=0.05),
    "150ms": Series("One host, 150 ms away", ("none", "code"), round_trip=0.15, peers=False),
    "narrow": Series("One host, 1 MB/s", ("first",), rate=1e6, peers=False),
    "4": Series("4 hosts", ("code",), 4),
    "10": Series("10 hosts", ("none", "code"), 10, peers=False),
    "30": Series("30 hosts", ("none", "code"), 30, peers=False),
}

SERVICE, START, UPLOAD = "service", "start", "upload"
"""The series that asks the service instead of deploying it; that of how `fab` starts; that of large wheels."""
EVERYTHING = (*SERIES, SERVICE, START, UPLOAD)


@dataclass
class Results:
    """costs: by series, action and contender, one per round. answers: of the service, by its setup.

    starts: seconds until `fab` has listed its tasks or completed a word, ours and that of a fabfile of one task.
    uploads: seconds of ours and of scp, by the link. when: the time of each series, as text.
    """

    costs: dict[tuple[str, str, str], list[Cost]] = field(default_factory=dict)
    answers: dict[str, Answers] = field(default_factory=dict)
    starts: dict[str, tuple[float, float]] = field(default_factory=dict)
    uploads: dict[str, tuple[float, float]] = field(default_factory=dict)
    when: dict[str, str] = field(default_factory=dict)

    def forget(self, series: str) -> None:
        """Forget a series before it is measured again."""
        self.costs = {key: costs for key, costs in self.costs.items() if key[0] != series}
        self.when.pop(series, None)
        if series == SERVICE:
            self.answers = {}
        if series == START:
            self.starts = {}
        if series == UPLOAD:
            self.uploads = {}

    def add(self, series: str, action: str, contender: str, cost: Cost) -> None:
        """Add one cost."""
        self.costs.setdefault((series, action, contender), []).append(cost)

    def of(self, series: str, action: str, contender: str) -> list[Cost]:
        """Return the costs of all rounds; empty if it did not take part."""
        return self.costs.get((series, action, contender), [])

    def seconds(self, series: str, action: str, contender: str) -> float | None:
        """Return the median of the wall time."""
        found = self.of(series, action, contender)
        return median(cost.seconds for cost in found) if found else None

    def write(self, path: Path) -> None:
        """Write all of them, a line each."""
        path.parent.mkdir(parents=True, exist_ok=True)
        lines: list[list[Any]] = []
        lines += [["cost", *key, asdict(cost)] for key, costs in self.costs.items() for cost in costs]
        lines += [["answers", title, asdict(one)] for title, one in self.answers.items()]
        lines += [["starts", name, both] for name, both in self.starts.items()]
        lines += [["uploads", name, both] for name, both in self.uploads.items()]
        lines += [["when", *one] for one in self.when.items()]
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def read(path: Path) -> Results:
    """Read what `write` wrote; no results without a file."""
    results = Results()
    for line in path.read_text().splitlines() if path.exists() else ():
        kind, *said = json.loads(line)
        if kind == "cost":
            series, action, contender, cost = said
            results.add(series, action, contender, Cost(**cost))
        elif kind == "answers":
            results.answers[said[0]] = Answers(**said[1])
        elif kind == "starts":
            results.starts[said[0]] = (said[1][0], said[1][1])
        elif kind == "uploads":
            results.uploads[said[0]] = (said[1][0], said[1][1])
        else:
            results.when[said[0]] = said[1]
    return results


class Wrong(Exception):
    """A contender reported success, but its hosts answer something else."""


def measure(
    name: str, ground: Ground, contenders: Sequence[Contender], rounds: int, results: Results, say: Any
) -> None:
    """Measure one series."""
    series = SERIES[name]
    warm(contenders)
    for number in range(1, rounds + 1):
        for action in series.actions:
            for contender in contenders:
                if action in contender.actions:
                    cost = once(contender, action, series, ground)
                    results.add(name, action, contender.name, cost)
                    say(f"{series.title}, round {number}: {action:10} {contender.name:14} {cost.seconds:6.2f} s")


def warm(contenders: Iterable[Contender]) -> None:
    """Fill the caches, and deploy each service."""
    for contender in contenders:
        cost(contender, "code")
        # Something to roll back to.
        contender.depend()
        cost(contender, "dependency")
        contender.edit()
        cost(contender, "code")
        contender.rest()


def once(contender: Contender, action: str, series: Series, ground: Ground) -> Cost:
    """Prepare, time the action, and check that it was done."""
    if action == "first":
        contender.wipe()
    if action == "dependency":
        contender.depend()
    if action in {"code", "dependency"}:
        contender.edit()
    before = ground.editions(contender.name)
    with ground.far(series.round_trip, series.rate):
        took = cost(contender, action)
    contender.rest()
    found = ground.editions(contender.name)
    if action == "rollback":
        done = len(found) == 1 and found != before
    elif action in {"restart", "status"}:
        done = found == before
    else:
        done = found == {f'{{"edition":{contender.edition}}}'}
    if not done:
        raise Wrong(f"{contender.name}, {action}: {found} answers, where {before} did")
    return took


def cost(contender: Contender, action: str) -> Cost:
    """Time one command."""
    told = contender.project / "output"
    return run(contender.ground, contender.command(action), contender.folder, contender.environment(), told)
