"""Follow many journals at once: merge them by time, reconnect to lost hosts, and bound the memory."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tasks.engine import misread
from tasks.engine.config.service import Service
from tasks.engine.errors import LoopError, UsageError
from tasks.engine.fleet.member import Member
from tasks.engine.host.log_entries import Entry, Wanted
from tasks.engine.logs import read
from tasks.engine.logs.merge import Merge
from tasks.engine.logs.read import Refused
from tasks.engine.logs.tracebacks import Joiner
from tasks.engine.misread import Misread
from tasks.engine.parallel import gather

_HOLD = 0.5
_TICK = 0.1
_ROOM = 16 * 1024 * 1024
_PATIENCE = 3.0
"""Seconds in which all hosts may send their past lines, so that these are merged in order, too."""
_PAUSES = (1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Note:
    """A change of a host's stream. event: lost, back, out (not tried again), dropped; text: for a person."""

    host: str
    event: str
    text: str


@dataclass(frozen=True)
class _CaughtUp:
    host: str


@dataclass(frozen=True)
class _Tick:
    pass


_Item = Entry | Note | _CaughtUp | _Tick
_Emit = Callable[[_Item], None]


def follow(members: Sequence[Member], wanted: Wanted, gone: Callable[[], bool]) -> Iterator[Entry | Note]:
    """Yield every line of every host once, until all hosts are out or `gone` reports that the reader has left."""
    stop = threading.Event()
    works = [_Host(member, wanted, stop).run for member in members]
    streams = _Streams(wanted, {member.host.name: member.service for member in members})

    def ticker(emit: _Emit) -> None:
        while not stop.wait(_TICK):
            emit(_Tick())

    # Followers do not end by themselves, so each needs a thread of its own.
    executor = ThreadPoolExecutor(max_workers=len(members) + 1, thread_name_prefix="host")
    try:
        yield from _merged(gather([*works, ticker], executor, _weight), streams, stop, gone)
    finally:
        stop.set()
        for member in members:
            member.close()
        executor.shutdown(wait=False)


def _merged(
    items: Iterator[_Item], streams: _Streams, stop: threading.Event, gone: Callable[[], bool]
) -> Iterator[Entry | Note]:
    merge: Merge[Entry | Note] = Merge(_HOLD, _ROOM)
    behind, left, began = streams.hosts, streams.hosts, time.monotonic()
    for item in items:
        now = time.monotonic()
        for entry in streams.entries(item, now):
            merge.push(entry.host, entry.time, entry, entry.size, now, time.time())
        if isinstance(item, _CaughtUp):
            behind.discard(item.host)
        elif isinstance(item, Note):
            # A note has no time of its own: it follows the last line of its host.
            merge.push(item.host, 0.0, item, 0, now, time.time())
            if item.event == "out":
                left.discard(item.host)
                behind.discard(item.host)
        # Until then none is due, but what has no room leaves.
        yield from merge.due(now if not behind or now - began > _PATIENCE else -math.inf)
        if not left:
            stop.set()
        if isinstance(item, _Tick) and gone():
            return
    yield from merge.rest()


class _Streams:
    """The lines of each host on their way to the merge, where those of a traceback become one entry."""

    def __init__(self, wanted: Wanted, services: Mapping[str, Service]) -> None:
        self._wanted, self._services = wanted, services
        self._joiners = {host: Joiner() for host in services}

    @property
    def hosts(self) -> set[str]:
        """The names of all hosts, as a new set."""
        return set(self._services)

    def entries(self, item: _Item, now: float) -> list[Entry]:
        """Return the wanted entries that this item completes; a note completes all of its host."""
        if isinstance(item, Entry):
            found = self._joiners[item.host].push(item, now)
        elif isinstance(item, _Tick):
            found = [entry for joiner in self._joiners.values() for entry in joiner.due(now)]
        else:
            found = self._joiners[item.host].rest()
        return [entry for entry in found if self._wanted.has(entry, self._services[entry.host])]


def _weight(item: _Item) -> int:
    return item.size if isinstance(item, Entry) else 0


class _Host:
    """The follower of one host, through all losses of its connection."""

    def __init__(self, member: Member, wanted: Wanted, stop: threading.Event) -> None:
        self._member, self._wanted, self._stop = member, wanted, stop
        self._name = member.host.name
        self._cursor: str | None = None
        self._begun = self._known = self._lost = False
        self._tries = 0

    def run(self, emit: _Emit) -> None:
        """Follow the host until it refuses, or until `stop` is set."""
        while not self._stop.is_set():
            try:
                with misread.as_error_of(self._name):
                    self._once(emit)
            except LoopError as error:
                if self._stop.is_set():
                    return
                if self._is_final(error):
                    self._member.error = error
                    emit(Note(self._name, "out", f"{error.message}; not followed"))
                    return
                self._away(error, emit)
            finally:
                self._member.close()
                self._member.session = None

    def _once(self, emit: _Emit) -> None:
        """Follow the host over one connection, until that ends."""
        self._member.connect()
        self._known = True
        if not self._begun:
            past = read.past(self._member, self._wanted)
            self._back(emit)
            if past.dropped:
                emit(Note(self._name, "dropped", f"{past.dropped} older lines are left out"))
            for entry in past.entries:
                emit(entry)
            self._cursor, self._begun = past.cursor, True
            emit(_CaughtUp(self._name))
        self._back(emit)
        for entry in read.onwards(self._member, self._wanted, self._cursor):
            self._tries = 0
            emit(entry)
            self._cursor = entry.cursor

    def _is_final(self, error: LoopError) -> bool:
        """Return True if a retry is useless or wrong. A host that has let us in may refuse a login while it boots."""
        refused = error.code == "host-key" or (error.code == "authentication" and not self._known)
        return refused or isinstance(error, (Refused, Misread, UsageError))

    def _away(self, error: LoopError, emit: _Emit) -> None:
        if not self._lost:
            self._lost = True
            reason = "lost" if self._known else error.message
            emit(Note(self._name, "lost", f"{reason}, trying again"))
        emit(_CaughtUp(self._name))
        self._stop.wait(_PAUSES[min(self._tries, len(_PAUSES) - 1)])
        self._tries += 1

    def _back(self, emit: _Emit) -> None:
        if self._lost:
            self._lost = False
            emit(Note(self._name, "back", "back"))
