"""Load on the front doors of hosts, from a separate client process, and the history that it records."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.clone import ROOT
from tests.support.front_door import NAME, ask
from tests.traffic.load_history import History, Window, figures, read

RATE = 100
"""Requests a second: with the tests beside it, a machine of two cores carries no more."""
UPLOAD = 10_000_000
SILENCE = 5.0
"""Seconds: an event stream that ticks five times a second is never so long without one, however busy the machine."""


@dataclass(frozen=True)
class Shot:
    """One request of a turn. size: bytes of a body, which makes it a POST; fresh: on a new connection."""

    kind: str
    path: str = "/healthz"
    size: int = 0
    fresh: bool = False


QUICK, FRESH = Shot("quick"), Shot("quick", fresh=True)


def _mix(number: int, careful: bool = False) -> Shot:
    if number == 50:
        return Shot("upload", "/echo", UPLOAD, fresh=careful)
    match number % 10:
        case 3:
            return Shot("slow", "/slow", fresh=number % 20 == 3)
        case 7:
            return Shot("post", "/echo", 4096, fresh=careful or number % 20 == 7)
        case 5:
            return FRESH
    return QUICK


EVERYTHING = tuple(_mix(number) for number in range(200))
"""One in ten takes a second, one in ten has a body, one in five is on a new connection, one in 200 sends 10 MB."""
CAREFUL = tuple(_mix(number, careful=True) for number in range(200))
"""EVERYTHING where idle connections may be closed: a request that must not be sent twice uses a new connection."""
STOCK = tuple(FRESH if number % 5 == 0 else QUICK for number in range(10))
"""Requests for the template's own service."""


@dataclass
class Load:
    """A load in progress; its history is complete when the block has ended.

    kept, streams: number of connections kept alive and of event streams held open, per address.
    """

    addresses: Sequence[str]
    rate: float = RATE
    turn: Sequence[Shot] = EVERYTHING
    kept: int = 50
    streams: int = 1
    port: int = 443
    windows: list[Window] = field(default_factory=list)
    first: dict[str, str] = field(default_factory=dict)
    _ended: list[History] = field(default_factory=list)

    @property
    def history(self) -> History:
        """Return the whole history."""
        (history,) = self._ended
        return history

    @contextmanager
    def during(self, name: str, served: Mapping[str, tuple[str, ...]] | None = None) -> Iterator[None]:
        """Name a window. served: by host that changes in it, the releases that serve, in order."""
        since = time.monotonic()
        yield
        self.windows.append(Window(name, since, time.monotonic(), served or {}))

    def quiet(self, seconds: float) -> None:
        """Record a window in which nothing happens."""
        with self.during("quiet"):
            time.sleep(seconds)

    def orders(self, log: Path) -> str:
        """Return the orders for the client process."""
        targets = [(address, self.port, NAME, self.port == 443) for address in self.addresses]
        turn = [(shot.kind, shot.path, shot.size, shot.fresh) for shot in self.turn]
        orders = {"targets": targets, "turn": turn, "rate": self.rate, "kept": self.kept, "streams": self.streams}
        return json.dumps({**orders, "log": str(log)})

    def end(self, log: Path, cost: str) -> None:
        """Read the log of the client process."""
        made = History(read(log), self.windows, self.first, self.port != 443, json.loads(cost)["cpu"])
        self._ended.append(made)


@contextmanager
def sent(load: Load, log: Path) -> Iterator[Load]:
    """Send load for the block, logged to a file."""
    load.first = {address: ask(address, port=load.port).json()["release"] for address in load.addresses}
    command = [sys.executable, "-m", "tests.traffic.load_client"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdin is not None
        client.stdin.write(load.orders(log) + "\n")
        client.stdin.flush()
        assert client.stdout.readline() == "begun\n"
        try:
            yield load
        finally:
            client.stdin.close()
            cost = client.stdout.readline()
    load.end(log, cost)


def require_no_loss(load: Load, request: pytest.FixtureRequest, retries: int = 0, resting: str = "") -> None:
    """Assert that nothing was lost or stale and no stream silent for long; attach the figures to the test's report.

    retries: number of idle connections that may have been closed just as they were used, as any server may do.
    resting: a host on which nothing happened.
    """
    history = load.history
    verbs = dict.fromkeys(window.name for window in load.windows if window.name != "quiet")
    told = figures(history, tuple(verbs), resting)
    request.node.user_properties.append(("figures", told))
    request.node.add_report_section("call", "figures", "\n".join(f"{name}: {value}" for name, value in told.items()))
    faults = history.faults(retries)
    assert faults == [], "\n".join(faults)
    assert set(history.tally()) == {"quick", "slow", "post", "upload", "stream"}
    assert max(one.gap for one in history.of("stream")) < SILENCE
    assert sum(one.events for one in history.of("stream")) > 3 * (load.windows[-1].until - load.windows[0].since)
