"""The marker `promise`: selects the cases that a run tries, and logs those that held.

`@pytest.mark.promise("<promise, a sentence>", "<fault>", part=N)` makes each test item a case of the row (promise,
fault). part: how many cases of the row a short run tries, which may be none; left out, all. Without `--promises all` a
run is short.

`@pytest.mark.further("test_of_its_kind")` leaves a test, or a case, out of each short run that tries the test it names.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast
from zlib import crc32

import pytest

from tests.promises.rows import SEED, Row, chosen, collected, further, rows_of
from tests.promises.versions import of_hosts

COLLECTED = pytest.StashKey[list[pytest.Item]]()
"""All tests that this process has collected, before any is deselected."""
# Asserts of test helpers report as much as those of tests.
pytest.register_assert_rewrite("tests.support.site", "tests.support.state_check")


class Ledger:
    """The outcomes of a run's cases, printed at its end. With a log: a line of JSON per case, and one for the run."""

    def __init__(self, log: Path | None) -> None:
        self._held: dict[tuple[Row, str], bool] = {}
        self._phases: dict[str, list[pytest.TestReport]] = {}
        self._log = log
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a phase of a test. A case that failed in any phase has not held; a skipped one was not tried."""
        phases = self._phases.setdefault(report.nodeid, [])
        phases.append(report)
        if report.when != "teardown":
            return
        del self._phases[report.nodeid]
        if any(phase.skipped for phase in phases):
            return
        held = all(phase.passed for phase in phases)
        seconds = round(sum(phase.duration for phase in phases if phase.when == "call"), 2)
        properties = cast(list[tuple[str, Any]], report.user_properties)
        measured = {name: value for name, value in properties if name == "figures"}
        for row in (Row(*value) for name, value in properties if name == "promise"):
            self._held[row, report.nodeid] = held
            self._write({**row._asdict(), "node": report.nodeid, "held": held, "seconds": seconds, **measured})

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Log versions, seed and time."""
        options = session.config.option
        date = time.strftime("%Y-%m-%d", time.gmtime())
        run = {"promises": options.promises, "seed": options.seed, "date": date, "cores": os.cpu_count()}
        run |= {"share": options.share} if options.share else {}
        run["tried"] = len({node for _, node in self._held})
        self._write({"run": {**run, "versions": of_hosts()}})

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print one line if a promise was touched."""
        if self._held:
            rows = len({row for row, _ in self._held})
            told = f"promises: {rows} rows, {sum(self._held.values())} of {len(self._held)} cases held"
            terminalreporter.write_line(told)

    def _write(self, line: dict[str, Any]) -> None:
        if self._log:
            with self._log.open("a") as file:
                file.write(json.dumps(line) + "\n")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the promises."""
    group = parser.getgroup("promises")
    group.addoption("--promises", choices=("all", "part"), default="part", help="all cases of each promise, or a part")
    group.addoption("--share", metavar="K/N", help="only the K-th of N shares of the cases, to try all in several runs")
    group.addoption("--promise", metavar="TEXT", help="only the cases of the promises that begin with this text")
    group.addoption("--seed", type=int, default=SEED, metavar="N", help=f"what chance is drawn from (default {SEED})")
    group.addoption("--promises-log", type=Path, metavar="FILE", help="a line of JSON for each case")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the ledger in one process, whichever processes run the tests."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Ledger(config.option.promises_log), "promises-ledger")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """Deselect the cases that a short run leaves out of those that -k and -m left; attach its rows to each report."""
    config.stash[COLLECTED] = [*items]
    yield
    if config.option.promise:
        _select(config, items, config.option.promise)
    if config.option.share:
        _take_share(config, items, config.option.share)
    if config.option.promises == "part":
        kept = short(items, config.option.seed)
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
    else:
        collected(items)
    for item in items:
        item.user_properties += [("promise", list(row)) for row in rows_of(item)]


def short(items: list[pytest.Item], seed: int) -> list[pytest.Item]:
    """Return those that a short run tries."""
    out = further(items)
    items = [item for item in items if item.nodeid not in out]
    cases, parts = collected(items)
    out = {node for ids in cases.values() for node in ids} - chosen(cases, parts, seed)
    return [item for item in items if item.nodeid not in out]


def _select(config: pytest.Config, items: list[pytest.Item], text: str) -> None:
    """Deselect all but the cases of the promises that begin with this text."""
    kept = {item for item in items if any(row.promise.startswith(text) for row in rows_of(item))}
    if items and not kept:
        raise pytest.UsageError(f"--promise: no promise begins with {text!r}; docs/PROMISES.md lists them")
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def _take_share(config: pytest.Config, items: list[pytest.Item], share: str) -> None:
    """Deselect all but a share of the items. An item's share is the same in each run, whatever others there are."""
    number, _, count = share.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise pytest.UsageError(f"--share: {share!r} is no share, such as 1/4")
    kept = {item for item in items if crc32(item.nodeid.encode()) % int(count) == int(number) - 1}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """A random generator, seeded by the run's seed and the name of the case, so that a case can be repeated."""
    return random.Random(f"{request.config.option.seed} {request.node.nodeid}")
