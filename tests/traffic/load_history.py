"""The history of a load, from its log alone: lost requests, the releases that answered, and the latencies."""

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

    due: planned time; start: actual time. answered: arrival of a stream's head. connection: fresh or kept; number: of
    the connection; opened: time of that. status: 0 without a whole answer. error: the fault of the answer, or empty.
    retried: the error of the idle connection that it was sent on first. events, gap: of a stream, the number of events
    and the longest wait for one.
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
        """Return true without a good answer. A stream that ends is not lost: its client must reconnect, and succeed."""
        return self.status != 200 or (bool(self.error) and self.kind != "stream")

    @property
    def chosen(self) -> float:
        """Return the time until which either release could answer."""
        return self.answered or self.end


@dataclass(frozen=True)
class Window:
    """A span of time. served: by host that changes in it, the releases that serve, in order."""

    name: str
    since: float
    until: float
    served: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class History:
    """The requests of a client, and the windows that the test named.

    first: the release of each host at the start. pinned: a kept connection stays with the release that took it, as
    without nginx. cpu: seconds that the client used.
    """

    requests: Sequence[Request]
    windows: Sequence[Window]
    first: Mapping[str, str]
    pinned: bool = False
    cpu: float = 0.0

    @property
    def lost(self) -> list[Request]:
        """Return the lost requests."""
        return [one for one in self.requests if one.lost]

    @property
    def retried(self) -> list[Request]:
        """Return the requests sent again because the server had closed an idle connection."""
        return [one for one in self.requests if one.retried]

    def tally(self) -> dict[str, tuple[int, int]]:
        """Return the lost and the sent requests of each kind."""
        sent, lost = Counter(one.kind for one in self.requests), Counter(one.kind for one in self.lost)
        return {kind: (lost[kind], sent[kind]) for kind in sorted(sent)}

    def of(self, *kinds: str) -> list[Request]:
        """Return the requests of these kinds."""
        return [one for one in self.requests if one.kind in kinds]

    def offered(self) -> float:
        """Return the requests a second that were really sent, without streams."""
        starts = sorted(one.start for one in self.requests if one.kind != "stream")
        return (len(starts) - 1) / (starts[-1] - starts[0])

    def seconds(
        self, windows: Collection[str], kinds: Collection[str] = (), hosts: Collection[str] = ()
    ) -> list[float]:
        """Return latencies since the due time, ascending: in these windows; of these kinds, or of all but streams."""
        spans = [(window.since, window.until) for window in self.windows if window.name in windows]
        return sorted(
            one.end - one.due
            for one in self.requests
            if (one.kind in kinds if kinds else one.kind != "stream")
            and (not hosts or one.host in hosts)
            and any(since <= one.due < until for since, until in spans)
        )

    def faults(self, retries: int = 0) -> list[str]:
        """Return all faults, as sentences. retries: number of idle connections that may have been closed."""
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
        """Return the releases that served in the windows that a request touches, and between them."""
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
        """Yield answers of the old release to requests begun after the new one had taken over for good in a window."""
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
        """Yield answers out of order: a connection's releases follow the host's; a pinned one has only one."""
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
    """Return the lines of a log, by due time."""
    with log.open(encoding="utf-8") as lines:
        return sorted((Request(**json.loads(line)) for line in lines), key=lambda one: one.due)


def percentile(seconds: Sequence[float], share: float) -> float:
    """Return the value that this share of the seconds (ascending) does not exceed."""
    return seconds[min(len(seconds) - 1, int(share * len(seconds)))]


def slower(history: History, verbs: Collection[str], kinds: Collection[str] = (), resting: str = "") -> float:
    """Return the factor by which the 99th percentile grew from the quiet windows to those of these verbs.

    resting: compare with this host, on which nothing happened, in the same windows instead.
    """
    hosts = set(history.first) - {resting}
    busy = history.seconds(verbs, kinds, hosts)
    calm = history.seconds(verbs, kinds, [resting]) if resting else history.seconds(["quiet"], kinds, hosts)
    return percentile(busy, 0.99) / percentile(calm, 0.99)


def figures(history: History, verbs: Collection[str], resting: str = "") -> dict[str, object]:
    """Return the figures for the report: requests sent and lost, and the latencies in the windows."""
    told: dict[str, object] = {"lost of sent": history.tally(), "sent again": len(history.retried)}
    told |= {"sent a second": round(history.offered(), 1), "CPU seconds of the client": round(history.cpu, 2)}
    hosts = set(history.first) - {resting}
    for name, kinds in (("all", ()), ("quick", ("quick",)), ("slow", ("slow",))):
        for window in ("quiet", *verbs):
            seconds = history.seconds([window], kinds, hosts)
            # A verb may take less time than a slow request.
            if not seconds:
                continue
            three = (percentile(seconds, 0.5), percentile(seconds, 0.99), seconds[-1])
            told[f"{name}, {window}: p50 p99 max in ms"] = [round(1000 * one, 1) for one in three]
        told[f"{name}: p99 to quiet"] = round(slower(history, verbs, kinds), 3)
        if resting:
            told[f"{name}: p99 to the host beside"] = round(slower(history, verbs, kinds, resting), 3)
    return told
