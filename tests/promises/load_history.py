"""What the log of a load proves: what was lost, who answered when, and how long it took. It trusts nothing else."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

NEVER = float("inf")


@dataclass(frozen=True)
class Request:
    """One line of the log; times in seconds, monotonic.

    due: when it was to be sent; start: when it was. answered: when a stream's head came. connection: fresh or kept;
    number: its own; opened: when it was asked for. status: 0 without a whole answer. error: why it is no good answer,
    or nothing. retried: what became of an idle connection that it was sent on before. events, gap: of a stream, how
    many came, and the longest wait for one.
    """

    due: float
    start: float
    end: float
    kind: str
    connection: str
    host: str
    status: int
    release: str
    error: str = ""
    number: int = 0
    opened: float = 0.0
    answered: float = 0.0
    retried: str = ""
    events: int = 0
    gap: float = 0.0

    @property
    def lost(self) -> bool:
        """Not answered as it should be. A stream that ends is not lost: its client connects again, and must succeed."""
        return self.status != 200 or (bool(self.error) and self.kind != "stream")

    @property
    def chosen(self) -> float:
        """Until when it was open who answers."""
        return self.answered or self.end


@dataclass(frozen=True)
class Window:
    """A part of the time. served: on the hosts where that changes, which releases serve in it, in this order."""

    name: str
    since: float
    until: float
    served: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class History:
    """What a client did, and what it was told of the time.

    first: the release of each host in the beginning. pinned: a kept connection stays with the release that took it,
    as where no gateway stands in between. cpu: seconds that the client itself used.
    """

    requests: Sequence[Request]
    windows: Sequence[Window]
    first: Mapping[str, str]
    pinned: bool = False
    cpu: float = 0.0

    @property
    def lost(self) -> list[Request]:
        """What was not answered as it should be."""
        return [one for one in self.requests if one.lost]

    @property
    def retried(self) -> list[Request]:
        """What had to be sent again, since the server had closed an idle connection."""
        return [one for one in self.requests if one.retried]

    def tally(self) -> dict[str, tuple[int, int]]:
        """Of each kind, how many were lost, and of how many."""
        sent, lost = Counter(one.kind for one in self.requests), Counter(one.kind for one in self.lost)
        return {kind: (lost[kind], sent[kind]) for kind in sorted(sent)}

    def of(self, *kinds: str) -> list[Request]:
        """All of these kinds."""
        return [one for one in self.requests if one.kind in kinds]

    def offered(self) -> float:
        """Requests a second that were sent in truth; streams apart."""
        starts = sorted(one.start for one in self.requests if one.kind != "stream")
        return (len(starts) - 1) / (starts[-1] - starts[0])

    def seconds(
        self, windows: Collection[str], kinds: Collection[str] = (), hosts: Collection[str] = ()
    ) -> list[float]:
        """How long after they were due, ascending: in windows of these names; of these kinds, or all but streams."""
        spans = [(window.since, window.until) for window in self.windows if window.name in windows]
        return sorted(
            one.end - one.due
            for one in self.requests
            if (one.kind in kinds if kinds else one.kind != "stream")
            and (not hosts or one.host in hosts)
            and any(since <= one.due < until for since, until in spans)
        )

    def faults(self, retries: int = 0) -> list[str]:
        """All that is wrong, as sentences. retries: how many idle connections may have been closed under a request."""
        found = []
        for kind, (lost, sent) in self.tally().items():
            if lost:
                found.append(f"{lost} of {sent} {kind} lost: {next(one for one in self.lost if one.kind == kind)}")
        if len(self.retried) > retries:
            found.append(f"{len(self.retried)} of {len(self.requests)} had to be sent again: {self.retried[0]}")
        wrong = [*self._strangers(), *self._stale(), *self._mixed()]
        return [*found, *(f"{told}: {one}" for told, one in wrong)]

    def _changes(self, host: str) -> list[Window]:
        return sorted((one for one in self.windows if host in one.served), key=lambda one: one.since)

    def _may_answer(self, one: Request) -> set[str]:
        """Who served in a window that it touches, and who between the windows."""
        serving, since, allowed = self.first[one.host], -NEVER, set[str]()
        for window in self._changes(one.host):
            if since <= one.chosen and one.start <= window.since:
                allowed.add(serving)
            if window.since <= one.chosen and one.start <= window.until:
                allowed.update(window.served[one.host])
            serving, since = window.served[one.host][-1], window.until
        return allowed | ({serving} if since <= one.chosen else set())

    def _strangers(self) -> Iterator[tuple[str, Request]]:
        for one in self.requests:
            if one.release and one.release not in (allowed := self._may_answer(one)):
                yield f"answered by {one.release}, not by {' or '.join(sorted(allowed))}", one

    def _stale(self) -> Iterator[tuple[str, Request]]:
        """Within a window: the old release, for what was begun after the new one had answered, and not gone back."""
        for window in self.windows:
            for host, served in window.served.items():
                changes = self._changes(host)
                ours = [
                    one
                    for one in self.requests
                    if one.host == host
                    and [
                        change for change in changes if self._begun(one) <= change.until and one.chosen >= change.since
                    ]
                    == [window]
                ]
                yield from self._overtaken(ours, served)

    def _begun(self, one: Request) -> float:
        return one.opened if self.pinned else one.start

    def _overtaken(self, requests: list[Request], served: tuple[str, ...]) -> Iterator[tuple[str, Request]]:
        if len(set(served)) < 2:
            return
        old, new = served[0], served[1]
        took = min((one.chosen for one in requests if one.release == new), default=NEVER)
        gave = max((self._begun(one) for one in requests if one.release == new), default=NEVER)
        for one in requests:
            after = self._begun(one) > took and (served[-1] != old or one.chosen < gave)
            if one.release == old and after:
                yield f"answered by {old} after {new} had taken over", one

    def _mixed(self) -> Iterator[tuple[str, Request]]:
        """On one connection the releases follow each other as on the host; where it is pinned there is only one."""
        answers = defaultdict[int, list[Request]](list)
        for one in sorted(self.requests, key=lambda one: one.start):
            if one.release and one.connection == "kept":
                answers[one.number].append(one)
        for requests in answers.values():
            path = iter(self._path(requests[0].host))
            serving = ""
            for one in requests:
                if one.release == serving:
                    continue
                if (serving and self.pinned) or one.release not in path:
                    yield f"answered by {one.release} on a connection where {serving or 'nobody'} had answered", one
                    break
                serving = one.release

    def _path(self, host: str) -> list[str]:
        return [self.first[host], *(release for window in self._changes(host) for release in window.served[host])]


def read(log: Path) -> list[Request]:
    """The lines of a log, in the order they were due."""
    with log.open(encoding="utf-8") as lines:
        return sorted((Request(**json.loads(line)) for line in lines), key=lambda one: one.due)


def percentile(seconds: Sequence[float], share: float) -> float:
    """What this share of them stayed within; seconds ascending."""
    return seconds[min(len(seconds) - 1, int(share * len(seconds)))]


def slower(history: History, verbs: Collection[str], kinds: Collection[str] = (), resting: str = "") -> float:
    """How many times longer 99 in 100 requests took in the windows of these verbs than in the quiet ones.

    resting: instead, than in the same seconds on a host beside, on which nothing happened.
    """
    hosts = set(history.first) - {resting}
    busy = history.seconds(verbs, kinds, hosts)
    calm = history.seconds(verbs, kinds, [resting]) if resting else history.seconds(["quiet"], kinds, hosts)
    return percentile(busy, 0.99) / percentile(calm, 0.99)


def figures(history: History, verbs: Collection[str], resting: str = "") -> dict[str, object]:
    """What to tell of it: what was sent and lost, and the times in the windows of verbs and in the quiet ones."""
    told: dict[str, object] = {"lost of sent": history.tally(), "sent again": len(history.retried)}
    told |= {"sent a second": round(history.offered(), 1), "CPU seconds of the client": round(history.cpu, 2)}
    hosts = set(history.first) - {resting}
    for name, kinds in (("all", ()), ("quick", ("quick",)), ("slow", ("slow",))):
        for window in ("quiet", *verbs):
            seconds = history.seconds([window], kinds, hosts)
            # A verb may take less time than one of the slow ones.
            if not seconds:
                continue
            three = (percentile(seconds, 0.5), percentile(seconds, 0.99), seconds[-1])
            told[f"{name}, {window}: p50 p99 max in ms"] = [round(1000 * one, 1) for one in three]
        told[f"{name}: p99 to quiet"] = round(slower(history, verbs, kinds), 3)
        if resting:
            told[f"{name}: p99 to the host beside"] = round(slower(history, verbs, kinds, resting), 3)
    return told
