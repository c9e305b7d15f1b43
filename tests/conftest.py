"""Fixtures that all tests share: real hosts, and their journals in the report of a failed test."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

from tests.support.clone import clone
from tests.support.forked_pip import forked_pip, pip_forks
from tests.support.hosts import MACHINES, host, hosts, inventory, module_hosts, one_host, sandbox, shire

pytest_plugins = ["tests.promises.plugin"]
__all__ = [
    "clone",
    "forked_pip",
    "host",
    "hosts",
    "inventory",
    "module_hosts",
    "one_host",
    "pip_forks",
    "sandbox",
    "shire",
]


def pytest_configure(config: pytest.Config) -> None:
    """Reset signals that the caller (nohup, a background job) ignores, so that they act as on a terminal.

    A short run tries few generated examples, one with all cases of the promises many.
    """
    settings.register_profile("part", max_examples=10, deadline=None)
    settings.register_profile("all", max_examples=1000, deadline=None)
    settings.load_profile(config.getoption("promises", "part"))
    for number, meaning in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, meaning)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Use one process more than there are cores: with more, the load breaks the bounds of traffic tests."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses real hosts, so that `make quick` leaves them out.

    Modules with such tests begin first, of these the long ones, then those with most cases, however many cases this
    run tries: short ones fill the rest of the time at the end.
    """
    for item in items:
        if "sandbox" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.sandbox)
    hosts, long = ({item.path for item in items if item.get_closest_marker(name)} for name in ("sandbox", "long"))
    sizes = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in hosts, item.path not in long, -sizes[item.path]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the last journal lines of each host into the report of a failed test: logs are truth."""
    report = yield
    if report.failed and report.when == "call":
        for machine in [machine for node in item.listchain() for machine in node.stash.get(MACHINES, [])]:
            report.sections.append((f"journal of {machine.name}", machine.journal()))
    return report


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Restore signal handlers after a test of the host's program: a child process inherits them."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
