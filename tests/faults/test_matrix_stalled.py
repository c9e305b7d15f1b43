"""A run that hangs at a step, and an event on its host or its controller at that moment."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.faults import matrix
from tests.faults.matrix import HERE, VERBS, Matrix, made
from tests.faults.moments import LINES, SIGNALS, meet
from tests.promises.words import AGAIN, WHOLE
from tests.support.clone import Ended, Process
from tests.support.site import Site
from tests.support.state_check import check

__all__ = ["made"]

BOTH = [(verb, step) for verb in ("code", "probation") for step in VERBS[verb].steps]
CASES = [*BOTH, *((verb, step) for verb in VERBS for step in VERBS[verb].steps if step not in {one for _, one in BOTH})]
OF_SCRIPTS = [case for case in CASES if not case[1].startswith(("controller.", "hold."))]
"""Each step once, and those of a probation apart; the other steps of venv, rollback and restart are the same.

The step that takes the lock of a run cannot report that it hangs.
"""


def tried(
    made: Matrix,
    verb: str,
    step: str,
    act: Callable[[Site, Process | None], object],
    look: Callable[[Site, str, str], object] = check,
) -> Ended:
    """Let the command hang there, and act: old or new serves; the same command again finishes the job."""
    site, old = made.site, made.site.answering
    with matrix.with_probation(site, VERBS[verb].probation):
        words, new = VERBS[verb].begin(made)
        try:
            ended = matrix.run_stalled(site, words, f"{step}=stall", lambda process: act(site, process))
            assert "Traceback" not in ended.both
            look(site, old, new)
        finally:
            site.machine.boot()
            matrix.finish(site, words, new)
    return ended


def power_cycle(site: Site, process: Process | None) -> None:
    """Cut the power, and boot again. The tests of links check the controller's message about a lost host."""
    site.machine.power_cut()
    matrix.kill(process)
    site.machine.boot()


def reboot(site: Site, process: Process | None) -> None:
    """Reboot in good order, which ends the host's program that hangs."""
    site.machine.reboot()
    matrix.kill(process)


def require_answer(site: Site, *allowed: str) -> None:
    """Assert that an allowed release answers while the program hangs."""
    assert site.answering in allowed


@pytest.mark.promise(WHOLE, "the power is cut while the host's program hangs at a step", part=1)
@pytest.mark.parametrize(("verb", "step"), OF_SCRIPTS)
def test_the_power_is_cut_at_a_step(made: Matrix, verb: str, step: str) -> None:
    """Once: a power cut in the middle of a prune left half a release on the disk until the next one."""
    tried(made, verb, step, power_cycle)


@pytest.mark.promise(WHOLE, "a clean reboot while the host's program hangs at a step", part=1)
@pytest.mark.parametrize(("verb", "step"), OF_SCRIPTS)
def test_the_host_reboots_at_a_step(made: Matrix, verb: str, step: str) -> None:
    tried(made, verb, step, reboot)


@pytest.mark.further("tests/hosts/probation/test_probation.py::test_a_guard_that_is_killed_goes_on")
@pytest.mark.promise(AGAIN, "the guard hangs at a step of a probation", part=1)
@pytest.mark.parametrize("step", [step for verb, step in OF_SCRIPTS if step.startswith("probation.")])
def test_a_probation_that_hangs_is_ended_by_the_next_run(made: Matrix, step: str) -> None:
    """A deploy of another release succeeds, and reports the run that it ended."""
    site, old = made.site, made.site.answering
    with matrix.with_probation(site, VERBS["probation"].probation):
        words, new = VERBS["probation"].begin(made)
        try:
            matrix.run_stalled(site, words, f"{step}=stall", lambda _: None)
            require_answer(site, old, new)
            newer = site.edit()
            assert "  recover: " in matrix.finish(site, words, newer).out
        finally:
            # A killed guard starts again, and does not break there twice.
            site.sh("systemctl kill -s KILL 'myapp-probation@*'")


@pytest.mark.promise(WHOLE, "SIGINT, SIGTERM or SIGHUP at each line that a deploy says", part=1)
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("line", LINES)
def test_a_signal_at_a_line(made: Matrix, name: str, line: str) -> None:
    """The run finishes a host under way, and begins no other."""
    site, old, new = made.site, made.site.answering, made.site.edit()
    number, status = SIGNALS[name]
    ended = meet(site.clone, ("deploy", *HERE), line, lambda process: process.send_signal(number))
    assert ended.status == status, ended.out
    assert "Traceback" not in ended.out
    matrix.require_serving(site, new if line.startswith("activate") else old)
    matrix.finish(site, ("deploy", *HERE), new)


@pytest.mark.further(
    "tests/hosts/deploy/test_interrupts.py::test_the_second_signal_cuts_and_the_host_undoes_what_it_had_begun"
)
@pytest.mark.promise(WHOLE, "SIGINT, SIGTERM or SIGHUP, twice, while the host's program hangs at a step", part=1)
@pytest.mark.parametrize(("verb", "step"), [case for case in OF_SCRIPTS if not case[1].startswith("probation.")])
def test_two_signals_cut_what_hangs(made: Matrix, dice: random.Random, verb: str, step: str) -> None:
    """The first waits for the host under way, which hangs; the second ends the controller at once."""
    number, status = SIGNALS[dice.choice(list(SIGNALS))]

    def twice(_: Site, process: Process | None) -> None:
        assert process is not None
        assert process.stdout is not None
        process.send_signal(number)
        while "again to exit at once" not in process.stdout.readline():
            pass
        process.send_signal(number)

    assert tried(made, verb, step, twice, require_answer).status == status
