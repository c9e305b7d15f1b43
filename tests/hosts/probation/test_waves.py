"""A run that waits for the probation of its hosts: always of the canary, of the others with --wait."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.promises.words import HELD_BACK
from tests.support.clone import Ended
from tests.support.front_door import release_of
from tests.support.hosts import Hosts, MakeHosts
from tests.support.probation_site import NEVER, ProbationSite, trial

pytestmark = pytest.mark.promise(HELD_BACK, "hosts of a run of several waves go back while it waits for them", part=1)


class Pair(ProbationSite):
    """shire01 and shire02, which serve the same release."""

    second: ProbationSite

    def both(self, seconds: int) -> tuple[str, str]:
        """Deploy to both, committed; return that release, and the next one."""
        self.probation(0)
        old = self.edit()
        self.clone.done("deploy", "-H", "all", "--canary", "0", "--batch", "100%")
        self.probation(seconds)
        return old, self.edit()

    @property
    def answers(self) -> list[str]:
        """Return the release of each."""
        return [self.answering, release_of(self.second.machine.address)]

    @contextmanager
    def until(self, line: str, *words: str) -> Iterator[Ended]:
        """Deploy to both until this line; yield the result, with the pid as status, completed at the block's end."""
        ended = Ended(-1, "", "")
        with self.clone.start("deploy", "-H", "all", *words) as process:
            assert process.stdout
            for text in iter(process.stdout.readline, ""):
                ended.out += " ".join(text.split()) + "\n"
                if line in ended.out:
                    break
            else:
                assert process.stderr
                pytest.fail(f"{line!r} did not come:\n{ended.out}{process.stderr.read()}")
            ended.status = process.pid
            yield ended
            out, ended.err = process.communicate(timeout=200)
        ended.status = process.returncode
        ended.out += "\n".join(" ".join(text.split()) for text in out.splitlines())


@pytest.fixture(scope="module")
def shires(module_hosts: MakeHosts) -> Hosts:
    return module_hosts(2)


@pytest.fixture(scope="module")
def pair(shires: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    first = trial(shires, tmp_path_factory.mktemp("pair"))
    made = Pair(first.clone, shires[0])
    made.second = ProbationSite(first.clone, shires[1])
    return made


def test_the_probation_of_the_canary_is_waited_for_before_the_second_wave(pair: Pair) -> None:
    old, new = pair.both(5)
    ended = pair.clone.done("deploy", "-H", "all")
    said = " ".join(ended.out.split())
    assert said.index(f"shire01 probation committed: {new}") < said.index("shire02 activate start")
    assert "on probation for 5 s: shire02" in said
    assert pair.answers == [new, new] != [old, old]
    pair.second.wait_until_decided()
    pair.second.settled()


def test_a_canary_that_goes_back_stops_the_run(pair: Pair) -> None:
    old, new = pair.both(NEVER)
    with pair.until("shire01 probation wait") as ended:
        pair.set_fault(new, "says 500")
    assert ended.status == 1
    assert (
        f"shire01 FAILED release {new} did not hold its probation: the health check of the release did not hold"
        in ended.out
    )
    assert "shire02 activate" not in ended.out
    assert "1 failed" in ended.out
    assert pair.answers == [old, old]
    pair.require_returned(old, new)


def test_undo_takes_back_the_hosts_that_had_held(pair: Pair) -> None:
    old, new = pair.both(8)
    with pair.until("shire02 probation wait", "--wait", "--on-failure", "undo") as ended:
        assert f"shire01 probation committed: {new}" in ended.out
        pair.second.set_fault(new, "says 500")
    assert ended.status == 1
    assert "shire02 FAILED" in ended.out
    assert f"shire01 UNDONE {new} -> {old}" in ended.out
    assert pair.answers == [old, old]
    assert pair.outcomes[-1] == ("undo", old, "done")
    for site in (pair, pair.second):
        site.wait_until_decided()
        site.settled()


def test_as_many_may_go_back_as_may_fail(pair: Pair) -> None:
    old, new = pair.both(8)
    with pair.until("shire01 probation wait", "--max-failures", "1") as ended:
        pair.set_fault(new, "says 500")
    assert ended.status == 1
    assert "shire02 DEPLOYED" in ended.out
    assert pair.answers == [old, new]
    pair.second.wait_until_decided()
    assert pair.second.outcomes[-1] == ("deploy", new, "done")


def test_a_signal_ends_the_waiting_and_leaves_the_rest_to_the_host(pair: Pair) -> None:
    old, new = pair.both(NEVER)
    with pair.until("shire01 probation wait") as ended:
        began = time.monotonic()
        os.kill(ended.status, signal.SIGINT)
    assert time.monotonic() - began < NEVER
    assert ended.status == 130
    assert "shire02 activate" not in ended.out
    assert f"on probation for {NEVER} s: shire01" in ended.out
    assert pair.answers == [new, old]
    # The repeated deploy waits for the canary again, and can still go back.
    with pair.until("shire01 probation wait") as ended:
        pair.set_fault(new, "says 500")
    assert ended.status == 1
    assert "shire02 activate" not in ended.out
    pair.require_returned(old, new)
    assert pair.answers == [old, old]
